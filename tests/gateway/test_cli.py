"""The command line as a person meets it: the real program in a process of its own."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import os
import signal
import sys
import tomllib
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from agent.models.protocols.wire import ProtocolName
from config.load import load
from config.template import Answers, ChannelAnswers
from gateway.cli import VERSION
from gateway.cli.banner import banner
from gateway.cli.checks.discord import discord_invitation
from gateway.cli.checks.slack import SLACK_SCOPES
from gateway.cli.home import describe_error
from gateway.cli.init import Person, ask
from gateway.cli.main import main
from interject.collisions import PACKAGES
from tests.servers.discord import Discord
from tests.servers.models import ModelServer
from tests.servers.raw_models import RawModelServer, whole
from tests.servers.slack import Slack
from tests.servers.telegram import BotApi

ROOT = Path(__file__).parents[2]
MODULE = (sys.executable, "-m", "interject")
INSTALLED = (str(Path(sys.executable).with_name("interject")),)
TOKEN = "123456:a-token-of-a-bot-in-a-test"


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Desk:
    """A directory to call the program in, and a data directory of its own."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def write(self, text: str, name: str = "interject.toml") -> Path:
        file = self.folder / name
        file.write_text(text)
        return file

    async def start(
        self,
        *arguments: str,
        program: Sequence[str] = MODULE,
        stdin: int = PIPE,
        stderr: int = PIPE,
        **environ: str,
    ) -> Process:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        env = inherited | {"INTERJECT_HOME": str(self.home), "PYTHONPATH": str(ROOT)} | environ
        return await asyncio.create_subprocess_exec(
            *program,
            *arguments,
            cwd=self.folder,
            env=env,
            stdin=stdin,
            stdout=PIPE,
            stderr=stderr,
        )

    async def call(
        self, *arguments: str, program: Sequence[str] = MODULE, typed: str = "", stderr: int = PIPE, **environ: str
    ) -> Ended:
        process = await self.start(*arguments, program=program, stderr=stderr, **environ)
        try:
            out, err = await asyncio.wait_for(process.communicate(typed.encode()), 60)
        finally:
            await gone(process)
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), (err or b"").decode())

    async def here(self, *arguments: str) -> Ended:
        """Calls the command in this process, which spares the start of another: for what a command does, not how it
        is started."""
        given = [*arguments, "--config", str(self.folder / "interject.toml")]
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = await asyncio.to_thread(main, given)
        return Ended(code, out.getvalue(), err.getvalue())

    @asynccontextmanager
    async def running(self, *arguments: str) -> AsyncIterator[Gateway]:
        process = await self.start("run", *arguments)
        try:
            assert process.stdout is not None
            lines = []
            async with asyncio.timeout(60):
                while line := (await process.stdout.readline()).decode().strip("\n"):
                    lines.append(line)
                    if len(lines) == 1:
                        await process.stdout.readline()
            yield Gateway(process, "\n".join(lines), self.home)
        finally:
            await gone(process)


@dataclass(frozen=True)
class Gateway:
    process: Process
    banner: str
    home: Path

    @property
    def link(self) -> str:
        """The sign-in link: its address as printed, its token from the file."""
        address = next(word for word in self.banner.split() if word.startswith("http://127.0.0.1:"))
        return f"{address}/?token={(self.home / 'web-token').read_text()}"

    async def end(self, number: signal.Signals) -> Ended:
        self.process.send_signal(number)
        out, err = await asyncio.wait_for(self.process.communicate(), 10)
        assert self.process.returncode is not None
        return Ended(self.process.returncode, out.decode(), err.decode())


async def gone(process: Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.communicate()


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    desk = Desk(tmp_path)
    monkeypatch.setenv("INTERJECT_HOME", str(desk.home))
    return desk


# --- run ---


async def test_run_prints_a_link_that_answers_and_a_signal_ends_it_well(desk: Desk) -> None:
    desk.write("[web]\nport = 0\n")
    async with desk.running() as gateway, httpx.AsyncClient(follow_redirects=True, trust_env=False) as browser:
        page = await browser.get(gateway.link)
        assert page.status_code == 200
        assert "<!doctype html>" in page.text.lower()
        ended = await gateway.end(signal.SIGTERM)
    assert (ended.code, ended.err) == (0, "")


async def test_run_prints_what_is_started_and_how_to_add_the_rest(desk: Desk) -> None:
    desk.write("[web]\nport = 0\n")
    async with desk.running() as gateway:
        pass
    assert gateway.banner.startswith(f"Interject {VERSION}")
    for words in (
        "demo, which works offline",
        'model = "openai:gpt-5"',
        "telegram not configured; needs token and allow in [channels.telegram], see docs/reference/telegram.md",
        "slack not configured; needs bot_token, app_token and allow in [channels.slack], see docs/reference/slack.md",
        "discord not configured; needs token and allow in [channels.discord], see docs/reference/discord.md",
        str(desk.home),
        str(desk.folder / "interject.toml"),
    ):
        assert words in " ".join(gateway.banner.split())


@pytest.mark.parametrize(
    ("allow", "users"),
    [
        ("[]", 'nobody yet; add allow = ["@your_name"]'),
        ('["*"]', "everybody"),
        ('["7", "@ann"]', "7, @ann"),
    ],
)
async def test_run_prints_the_allowed_users_and_never_a_secret(desk: Desk, allow: str, users: str) -> None:
    desk.write(
        f'[web]\nport = 0\n[channels.telegram]\ntoken = "{TOKEN}"\nallow = {allow}\napi_url = "http://127.0.0.1:1"\n'
    )
    async with desk.running() as gateway:
        ended = await gateway.end(signal.SIGINT)
    assert f"telegram starting; allowed users (allowlist): {users}" in " ".join(gateway.banner.split())
    assert ended.code == 0
    assert TOKEN.partition(":")[2] not in gateway.banner + ended.out + ended.err
    assert "Traceback" not in ended.err


async def test_run_ends_within_two_seconds_while_a_task_runs(desk: Desk) -> None:
    desk.write("[web]\nport = 0\n[agent]\nshutdown_grace = 0\n")
    async with desk.running() as gateway:
        chat = await desk.start("chat", "--url", gateway.link)
        assert chat.stdin is not None
        assert chat.stdout is not None
        chat.stdin.write(b"do a long task")
        chat.stdin.close()
        await asyncio.wait_for(chat.stdout.readline(), 30)
        before = asyncio.get_running_loop().time()
        ended = await gateway.end(signal.SIGINT)
        assert asyncio.get_running_loop().time() - before < 4
        await gone(chat)
    assert ended.code == 0


@pytest.mark.parametrize(
    ("command", "settings", "message"),
    [
        ("run", '[agnt]\nmodel = "demo"\n', 'interject.toml:1: agnt: no such setting. Did you mean "agent"?'),
        ("chat", "[web]\nport = x\n", "interject.toml:2: not TOML"),
        ("check", '[agent]\nmodel = "openai:gpt-5"\n', "OPENAI_API_KEY"),
    ],
)
async def test_an_invalid_configuration_is_refused_with_a_clear_message(
    desk: Desk, command: str, settings: str, message: str
) -> None:
    desk.write(settings)
    ended = await desk.call(command)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert "Traceback" not in ended.err
    assert not desk.home.exists()


async def test_a_port_that_is_taken_is_one_clear_message(desk: Desk) -> None:
    async with BotApi() as somebody:
        port = somebody.url.rpartition(":")[2]
        desk.write(f"[web]\nport = {port}\n")
        ended = await desk.call("run")
    assert ended.code == 1
    assert ended.err.count("\n") == 1
    assert f"127.0.0.1:{port}" in ended.err


async def test_a_gateway_without_a_channel_is_refused(desk: Desk) -> None:
    file = desk.write("[web]\nenabled = false\n")
    ended = await desk.call("run")
    assert (ended.code, ended.out) == (2, "")
    for words in (file.name, "no channel is enabled", "enabled = false", "[channels.telegram]"):
        assert words in ended.err
    assert not desk.home.exists()


async def test_without_the_web_chat_no_terminal_is_offered(desk: Desk) -> None:
    telegram = f'[channels.telegram]\ntoken = "{TOKEN}"\napi_url = "http://127.0.0.1:1"\n'
    desk.write(f"[web]\nenabled = false\n{telegram}")
    async with desk.running() as gateway:
        pass
    assert "off ([web] enabled = false)" in gateway.banner
    assert "interject chat" not in gateway.banner


@pytest.mark.parametrize("command", ["run", "chat"])
@pytest.mark.parametrize(
    ("home", "wrong"),
    [("home", "a file, not a directory"), ("home/deeper", "part of this path is a file, not a directory")],
)
async def test_a_data_directory_that_is_a_file_is_refused_with_a_clear_message(
    desk: Desk, command: str, home: str, wrong: str
) -> None:
    desk.write("[web]\nport = 0\n")
    desk.write("a file", "home")
    ended = await desk.call(command, typed="hello", INTERJECT_HOME=str(desk.folder / home))
    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert f"interject: {desk.folder / home}: {wrong}" in ended.err
    assert "INTERJECT_HOME" in ended.err
    assert "Errno" not in ended.err


@pytest.mark.parametrize(
    ("number", "wrong", "advice"),
    [
        (errno.EROFS, "the file system is read-only", "INTERJECT_HOME"),
        (errno.EACCES, "permission denied", "INTERJECT_HOME"),
        (errno.ENOSPC, "the disk is full", "Make room"),
    ],
)
def test_a_file_error_is_explained(number: int, wrong: str, advice: str) -> None:
    home = Path("/data/interject")
    for file in (home, home / "chat.log", home.parent):
        words = describe_error(OSError(number, "strerror", str(file)), home)
        assert words.startswith(f"{file}: ")
        assert wrong in words
        assert advice in words
    assert "INTERJECT_HOME" not in describe_error(OSError(number, "strerror", "/elsewhere"), home)
    assert describe_error(OSError("no file at all"), home) == "no file at all"


async def test_two_gateways_do_not_share_a_data_directory(desk: Desk) -> None:
    desk.write("[web]\nport = 0\n")
    async with desk.running() as gateway:
        ended = await desk.call("run")
        assert ended.code == 1
        assert f"is in use by process {gateway.process.pid}" in ended.err


async def test_run_loads_nothing_heavy_before_the_first_poll(desk: Desk) -> None:
    async with BotApi() as api:
        desk.write(f'[web]\nenabled = false\n[channels.telegram]\ntoken = "{api.token}"\napi_url = "{api.url}"\n')
        process = await desk.start("run", PYTHONPROFILEIMPORTTIME="1")
        try:
            async with asyncio.timeout(60):
                assert process.stderr is not None
                loaded = [await process.stderr.readline()]
                while b"this is @" not in loaded[-1]:
                    loaded.append(await process.stderr.readline())
        finally:
            await gone(process)
    names = {line.rpartition(b"|")[2].strip().decode() for line in loaded}
    heavy = {"fastapi", "uvicorn", "pydantic_ai", "matplotlib", "prompt_toolkit", "rich", "typer", "alembic", "PIL"}
    assert "telegram" in names
    assert names & heavy == set()


# --- chat ---


async def test_a_piped_text_is_answered_by_a_gateway_of_its_own(desk: Desk) -> None:
    desk.write("[web]\nport = 0\n")
    ended = await desk.call("chat", typed="hello")
    assert (ended.code, ended.err) == (0, "")
    assert "Try one of these" in ended.out
    assert "\x1b" not in ended.out
    assert not (desk.home / "gateway.json").exists()
    assert desk.home.stat().st_mode & 0o777 == 0o700


async def test_an_empty_input_is_refused(desk: Desk) -> None:
    desk.write("[web]\nport = 0\n")
    ended = await desk.call("chat", typed=" \n")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "interject: nothing to send: the input is empty\n"


async def test_progress_has_lines_of_its_own_where_both_streams_are_one_file(desk: Desk) -> None:
    desk.write("[web]\nport = 0\n")
    ended = await desk.call("chat", typed="pie chart of 3, 5, 8", stderr=STDOUT)
    assert ended.code == 0
    assert "✓ draw_chart: pie" in ended.out.splitlines()


async def test_a_taken_port_does_not_prevent_a_chat(desk: Desk) -> None:
    async with BotApi() as somebody:
        desk.write(f"[web]\nport = {somebody.url.rpartition(':')[2]}\n")
        ended = await desk.call("chat", typed="hello")
    assert ended.code == 0
    assert "Try one of these" in ended.out


async def test_chat_finds_the_running_gateway_and_saves_its_pictures(desk: Desk) -> None:
    desk.write("[web]\nport = 0\n")
    async with desk.running() as gateway:
        announced = desk.home / "gateway.json"
        assert json.loads(announced.read_text()) == {"pid": gateway.process.pid, "link": gateway.link}
        assert announced.stat().st_mode & 0o777 == 0o600
        ended = await desk.call("chat", typed="pie chart of 3, 5, 8")
        await gateway.end(signal.SIGTERM)
    assert ended.code == 0
    assert ended.err == "✓ draw_chart: pie\n"
    (picture,) = (desk.home / "pictures").iterdir()
    assert f"picture: {picture}" in ended.out
    assert not announced.exists()


async def test_a_dead_gateway_is_not_taken_for_a_running_one(desk: Desk) -> None:
    desk.write("[web]\nport = 0\n")
    async with desk.running() as gateway:
        gateway.process.kill()
        await gateway.process.communicate()
    assert (desk.home / "gateway.json").exists()
    ended = await desk.call("chat", typed="hello")
    assert ended.code == 0
    assert "Try one of these" in ended.out


async def test_a_conversation_continues_until_a_new_one_is_started(desk: Desk) -> None:
    desk.write("[web]\nenabled = false\n")
    await desk.call("chat", typed="my name is Ann")
    remembered = await desk.call("chat", typed="what is my name?")
    assert "Ann" in remembered.out
    forgotten = await desk.call("chat", "--new", typed="what is my name?")
    assert "Ann" not in forgotten.out
    assert "new conversation" not in forgotten.out


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "nonsense"])
async def test_an_invalid_link_is_refused(desk: Desk, url: str) -> None:
    ended = await desk.call("chat", "--url", url, typed="hello")
    assert ended.code == 1
    assert "Not a sign-in link" in ended.err


async def test_a_link_without_a_gateway_is_refused_at_once(desk: Desk) -> None:
    ended = await desk.call("chat", "--url", "http://127.0.0.1:1/?token=any", typed="hello")
    assert (ended.code, ended.out) == (1, "")
    assert "no gateway answers at http://127.0.0.1:1" in ended.err


async def test_chat_finds_its_gateway_again_on_another_port(desk: Desk) -> None:
    desk.write("[web]\nport = 0\n[agent]\nshutdown_grace = 0\n")
    async with desk.running() as gateway:
        chat = await desk.start("chat")
        try:
            # The first piece of its answer says that it is attached; the rest comes from the gateway after this one.
            assert chat.stdin is not None
            assert chat.stdout is not None
            chat.stdin.write(b"do a long task")
            chat.stdin.close()
            first = await asyncio.wait_for(chat.stdout.readline(), 30)
            await gateway.end(signal.SIGTERM)
            async with desk.running() as other:
                assert other.link != gateway.link
                rest = await asyncio.wait_for(chat.stdout.read(), 60)
                assert await asyncio.wait_for(chat.wait(), 10) == 0
        finally:
            await gone(chat)
    assert first
    assert rest


async def test_chat_logs_into_a_private_file_and_not_over_the_conversation(desk: Desk) -> None:
    desk.write(f'[web]\nport = 0\n[channels.telegram]\ntoken = "{TOKEN}"\napi_url = "http://127.0.0.1:1"\n')
    ended = await desk.call("chat", typed="hello")
    log = desk.home / "chat.log"
    assert ended.err == ""
    assert log.stat().st_mode & 0o777 == 0o600
    assert "telegram" in log.read_text()
    assert TOKEN.partition(":")[2] not in log.read_text()


# --- init, check, version ---


async def test_init_writes_a_valid_file_and_never_overwrites_another(desk: Desk) -> None:
    first = await desk.call("init")
    assert first.code == 0
    assert (await desk.call("check")).code == 0
    file = desk.write("# mine\n")
    second = await desk.call("init")
    assert second.code == 1
    assert "--force" in second.err
    assert file.read_text() == "# mine\n"
    assert (await desk.call("init", "--force")).code == 0
    assert file.read_text() != "# mine\n"


async def test_check_names_the_small_model_and_the_hooks(desk: Desk) -> None:
    desk.write(
        '[agent]\nsmall_model = "demo"\n'
        '[[hooks]]\nname = "review"\ntype = "process"\ncommand = ["true"]\npoints = ["before_tool", "on_event"]\n'
        '[[hooks]]\nname = "policy"\ntype = "http"\nurl = "http://127.0.0.1:1"\nsecret = "not-to-be-seen"\n'
        'points = ["on_message"]\n'
    )
    ended = await desk.call("check")
    assert ended.code == 0
    for words in ("small model: demo", "hook review: process, at before_tool, on_event", "hook policy: http"):
        assert words in ended.out
    assert "not-to-be-seen" not in ended.out + ended.err


async def test_check_names_the_python_hook_that_cannot_be_loaded(desk: Desk) -> None:
    desk.write("class Rules:\n    async def before_tool(self, where, call):\n        return None\n", "rules.py")
    hook = '[[hooks]]\nname = "{}"\ntype = "python"\npath = "{}:Rules"\npoints = ["before_tool"]\n'
    desk.write(hook.format("rules", "rules.py"))
    ended = await desk.call("check")
    assert (ended.code, "hook rules: can be loaded" in ended.out) == (0, True)
    desk.write(hook.format("rules", "rules.py") + hook.format("gone", "gone.py"))
    ended = await desk.call("check")
    assert ended.code == 1
    assert "!!  hook gone:" in ended.out
    assert "cannot be loaded: FileNotFoundError" in ended.out


async def test_check_and_doctor_name_the_hook_whose_program_is_not_there(desk: Desk) -> None:
    hook = '[[hooks]]\nname = "{}"\ntype = "process"\ncommand = ["{}"]\npoints = ["before_tool"]\n'
    desk.write("#!/bin/sh\n", "beside.sh").chmod(0o755)
    desk.write(hook.format("known", "sh") + hook.format("beside", "./beside.sh"))
    assert (await desk.here("check")).code == 0
    desk.write(hook.format("gone", "./gone.sh") + hook.format("unknown", "no-such-program"))
    checked = await desk.here("check")
    examined = await desk.here("doctor", "--offline")
    assert (checked.code, examined.code) == (1, 1)
    for shown in (checked.out, examined.out):
        assert "!!  hook gone: there is no program ./gone.sh to start" in shown
        assert "!!  hook unknown: there is no program no-such-program to start" in shown


class Typist:
    """Answers from a list, and records the visible prompts."""

    def __init__(self, *answers: str) -> None:
        self.asked: list[str] = []
        self._answers = list(answers)

    def ask(self, question: str) -> str:
        self.asked.append(question)
        return self._answers.pop(0)

    def ask_hidden(self, question: str) -> str:
        return self._answers.pop(0)


def test_init_asks_and_stores_typed_keys_in_private_files(tmp_path: Path) -> None:
    person = Typist(
        *("gpt-5", "openai:gpt-5", "http://127.0.0.1:9/v1", "sk-typed"),
        *("y", "1:typed", "7, @ann bob"),
        *("y", "xoxb-typed", "xapp-typed", "U012AB3CD ann"),
        *("yes", "d-typed", "*"),
    )
    folder = tmp_path / "secrets"
    answers = ask(Person(person.ask, person.ask_hidden), folder)
    assert answers == Answers(
        "openai:gpt-5",
        f"file:{folder}/openai-api-key",
        "http://127.0.0.1:9/v1",
        (
            ChannelAnswers("telegram", {"token": f"file:{folder}/telegram-token"}, ("7", "@ann", "@bob")),
            ChannelAnswers(
                "slack",
                {"bot_token": f"file:{folder}/slack-bot-token", "app_token": f"file:{folder}/slack-app-token"},
                ("U012AB3CD", "@ann"),
            ),
            ChannelAnswers("discord", {"token": f"file:{folder}/discord-token"}, ("*",)),
        ),
    )
    assert {file.name: file.read_text() for file in folder.iterdir()} == {
        "openai-api-key": "sk-typed\n",
        "telegram-token": "1:typed\n",
        "slack-bot-token": "xoxb-typed\n",
        "slack-app-token": "xapp-typed\n",
        "discord-token": "d-typed\n",
    }
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700


def test_init_makes_the_data_directory_for_its_owner_only(tmp_path: Path) -> None:
    home = tmp_path / "deeper" / "home"
    person = Typist("openai:gpt-5", "", "sk-typed", "", "", "")
    ask(Person(person.ask, person.ask_hidden), home / "secrets")
    assert home.stat().st_mode & 0o777 == 0o700


def test_init_refers_to_the_environment_for_keys_that_are_not_typed(tmp_path: Path) -> None:
    person = Typist("anthropic:claude", "", "", *("y", "", ""), *("y", "", "", ""), *("y", "", ""))
    answers = ask(Person(person.ask, person.ask_hidden), tmp_path / "secrets")
    assert answers.api_key == "${ANTHROPIC_API_KEY}"
    assert [dict(channel.tokens) for channel in answers.channels] == [
        {"token": "${TELEGRAM_BOT_TOKEN}"},
        {"bot_token": "${SLACK_BOT_TOKEN}", "app_token": "${SLACK_APP_TOKEN}"},
        {"token": "${DISCORD_BOT_TOKEN}"},
    ]
    assert not (tmp_path / "secrets").exists()


def test_init_can_be_answered_with_enter_alone(tmp_path: Path) -> None:
    person = Typist("", "", "", "")
    assert ask(Person(person.ask, person.ask_hidden), tmp_path / "secrets") == Answers("demo")


SERVED = """\
[agent]
model = "{model}"
[models.openai]
api_key = "{key}"
base_url = "{openai}"
[models.anthropic]
api_key = "{key}"
base_url = "{anthropic}"
[channels.telegram]
token = "{token}"
api_url = "{api}"
allow = ["*"]
"""


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_check_online_tests_keys_tokens_and_models(desk: Desk, provider: str) -> None:
    async with BotApi() as api, ModelServer(api_key="the-right-key") as models:
        listed = await _first_model(models)

        async def check(model: str = listed, key: str = "the-right-key", token: str = api.token) -> Ended:
            servers = {"openai": models.openai_url, "anthropic": models.anthropic_url, "api": api.url}
            desk.write(SERVED.format(model=f"{provider}:{model}", key=key, token=token, **servers))
            return await desk.here("check", "--online")

        right = await check()
        wrong_key = await check(key="a-wrong-key")
        wrong_model = await check(model="no-such-model")
        wrong_token = await check(token=TOKEN)
    assert right.code == 0, right
    assert right.out.count("  ok  ") == 5
    assert "!!" not in right.out
    assert (wrong_key.code, wrong_model.code, wrong_token.code) == (1, 1, 1)
    assert "key rejected by" in wrong_key.out
    assert "does not list the model no-such-model" in wrong_model.out
    assert "token rejected by Telegram" in wrong_token.out
    said = "".join(ended.out + ended.err for ended in (right, wrong_key, wrong_model, wrong_token))
    for secret in ("the-right-key", "a-wrong-key", TOKEN, api.token):
        assert secret not in said


async def _first_model(models: ModelServer) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{models.openai_url}/models", headers={"Authorization": "Bearer the-right-key"})
    return str(answer.json()["data"][0]["id"])


async def test_check_online_names_the_servers_that_cannot_be_reached(desk: Desk) -> None:
    desk.write(
        SERVED.format(
            model="openai:x",
            key="k" * 8,
            token=TOKEN,
            **dict.fromkeys(("openai", "anthropic", "api"), "http://127.0.0.1:1"),
        )
    )
    ended = await desk.here("check", "--online")
    assert ended.code == 1
    assert ended.out.count("http://127.0.0.1:1 cannot be reached") == 2
    assert TOKEN not in ended.out + ended.err


def slack_settings(server: Slack, *, bot_token: str | None = None, app_token: str | None = None) -> str:
    return f"""\
[channels.slack]
bot_token = "{bot_token or server.bot_token}"
app_token = "{app_token or server.app_token}"
api_url = "{server.api_url}"
admins = ["@ann"]
"""


async def test_check_online_checks_a_slack_app(desk: Desk) -> None:
    async with Slack(name="helper", scopes=SLACK_SCOPES) as slack:
        desk.write(slack_settings(slack))
        ended = await desk.here("check", "--online")
    assert ended.code == 0, ended
    assert ended.out.splitlines()[-5:-1] == [
        "  ok  slack bot token: valid, the bot is @helper in the workspace Test",
        "  ok  slack scopes: the token has all required scopes",
        "  ok  slack app token: valid, Socket Mode is available",
        "  ok  slack allowlist: @ann",
    ]
    assert slack.bot_token not in ended.out
    assert slack.app_token not in ended.out


async def test_check_online_says_what_a_slack_app_lacks_and_how_to_fix_it(desk: Desk) -> None:
    async with Slack(scopes=set(SLACK_SCOPES) - {"files:write", "users:read"}) as slack:
        desk.write(slack_settings(slack))
        poor = await desk.here("check", "--online")
        desk.write(slack_settings(slack, bot_token="xoxb-wrong-token", app_token=slack.bot_token))
        wrong = await desk.here("check", "--online")
    assert (poor.code, wrong.code) == (1, 1)
    assert "!!  slack scopes: missing: files:write, users:read. Add them under OAuth & Permissions" in poor.out
    assert "!!  slack bot token: token rejected by Slack (invalid_auth); get the Bot User OAuth" in wrong.out
    assert "!!  slack app token: token rejected by Slack (not_allowed_token_type)" in wrong.out
    for secret in (slack.bot_token, "xoxb-wrong-token"):
        assert secret not in poor.out + poor.err + wrong.out + wrong.err


async def test_check_online_says_what_cannot_be_checked_of_slack_over_http(desk: Desk) -> None:
    async with Slack() as slack:
        settings = f'[channels.work]\ntype = "slack"\nbot_token = "{slack.bot_token}"\nsigning_secret = "{TOKEN}"\n'
        desk.write(f'{settings}api_url = "{slack.api_url}"\npair = true\n')
        ended = await desk.here("check", "--online")
    assert ended.code == 0
    assert "ok  work scopes: not reported by Slack" in ended.out
    assert "ok  work signing secret: cannot be checked from here" in ended.out
    assert "ok  work allowlist: nobody yet; others get a pairing code" in ended.out
    assert TOKEN not in ended.out


async def test_check_online_checks_a_discord_bot(desk: Desk) -> None:
    async with Discord(username="helper") as discord:
        desk.write(f'[channels.discord]\ntoken = "{discord.token}"\napi_url = "{discord.api_url}"\nallow = ["*"]\n')
        ended = await desk.here("check", "--online")
    assert ended.code == 0, ended
    assert ended.out.splitlines()[-5:-1] == [
        "  ok  discord token: valid, the bot is @helper",
        "  ok  discord intents: Message Content Intent is on",
        f"  ok  discord invitation: to add the bot to a server, open {discord_invitation(discord.me['id'])}",
        "  ok  discord allowlist: everybody",
    ]
    assert discord.token not in ended.out


async def test_check_online_says_what_a_discord_bot_lacks_and_how_to_fix_it(desk: Desk) -> None:
    async with Discord(allowed_intents=0) as discord:
        desk.write(f'[channels.discord]\ntoken = "{discord.token}"\napi_url = "{discord.api_url}"\n')
        poor = await desk.here("check", "--online")
        desk.write(f'[channels.discord]\ntoken = "{TOKEN}"\napi_url = "{discord.api_url}"\n')
        wrong = await desk.here("check", "--online")
    assert (poor.code, wrong.code) == (1, 1)
    assert "!!  discord intents: Message Content Intent is off. Switch it on: developer portal, Bot" in poor.out
    assert '!!  discord allowlist: nobody yet; add allow = ["@your_name"]' in poor.out
    assert "!!  discord token: token rejected by Discord" in wrong.out
    assert TOKEN not in wrong.out + wrong.err


PLATFORMS = {
    "telegram": 'token = "1:a"\nallow = ["*"]',
    "slack": 'bot_token = "b"\napp_token = "a"\nallow = ["*"]',
    "discord": 'token = "d"\nallow = ["*"]',
}


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_check_online_notices_an_unreachable_server_and_a_wrong_one(desk: Desk, platform: str) -> None:
    async def check(url: str) -> Ended:
        desk.write(f'[channels.{platform}]\n{PLATFORMS[platform]}\napi_url = "{url}"\n')
        return await desk.here("check", "--online")

    async with ModelServer(api_key="any") as another:
        unreachable, wrong = await check("http://127.0.0.1:1"), await check(another.openai_url)
    assert (unreachable.code, wrong.code) == (1, 1)
    assert "http://127.0.0.1:1 cannot be reached" in unreachable.out
    assert "!!" in wrong.out
    assert unreachable.err + wrong.err == ""


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        ("mention", "ok  telegram groups: the bot answers mentions, replies and commands"),
        ("all", "ok  telegram groups: the bot reads and answers every message"),
        ("off", "ok  telegram groups: the bot ignores group messages"),
    ],
)
async def test_check_online_says_what_a_telegram_bot_does_in_groups(desk: Desk, groups: str, told: str) -> None:
    async with BotApi() as api:
        channel = f'[channels.telegram]\ntoken = "{api.token}"\napi_url = "{api.url}"\nallow = ["*"]\n'
        desk.write(f'{channel}groups = "{groups}"\n')
        ended = await desk.here("check", "--online")
    assert ended.code == 0
    assert told in ended.out


SEVERAL = """[agent]
model = "work:{model}"
[models.work]
type = "{type}"
base_url = "{url}"
api_key = ["the-right-key", "a-wrong-key"]
[models.work."{model}"]
context_window = 40000
price = {{ input = 1.5, output = 6 }}
[models.gone]
type = "openai"
base_url = "http://127.0.0.1:1/v1?key=secret"
[channels.telegram]
token = "{token}"
api_url = "http://127.0.0.1:1"
"""


@pytest.mark.parametrize("type", ["openai", "openai-responses", "anthropic"])
async def test_models_lists_what_each_server_offers(desk: Desk, type: ProtocolName) -> None:
    async with ModelServer(api_key="the-right-key") as models:
        listed = await _first_model(models)
        desk.write(SEVERAL.format(model=listed, type=type, url=models.url(type), token=TOKEN))
        everything, one = await desk.here("models"), await desk.here("models", "work", "--json")
        unknown = await desk.here("models", "wrok")
    assert (everything.code, one.code, unknown.code) == (1, 0, 1)
    line = next(line for line in everything.out.splitlines() if line.startswith(f"work:{listed} "))
    assert line.split()[1:] == ["40,000", "tokens", "$1.5", "in,", "$6", "out", "per", "million"]
    assert everything.err == "interject: gone: http://127.0.0.1:1/v1 cannot be reached (ConnectError)\n"
    rows = [json.loads(row) for row in one.out.splitlines()]
    assert {"model": f"work:{listed}", "context_window": 40000, "price": {"input": 1.5, "output": 6}} in rows
    assert unknown.err == 'interject: the provider is not configured. Did you mean "work"?\n'


async def test_models_reads_windows_and_prices_where_a_server_lists_them(desk: Desk) -> None:
    listed = [
        {"id": "a/big", "context_length": 262144, "pricing": {"prompt": "0.000003", "completion": "0.000015"}},
        {"id": "models/small", "meta": {"n_ctx_train": 8192}},
        {"id": "odd", "context_length": "many", "pricing": {"prompt": "-", "completion": None}},
        {"name": "no id"},
    ]
    async with RawModelServer() as server:
        server.respond(lambda request: whole(listed))
        desk.write(f'[models.vllm]\nbase_url = "{server.url}/v1?tenant=a"\nquery = {{ version = "7" }}\n')
        ended = await desk.here("models")
    assert server.requests[0].target == "/v1/models?tenant=a&version=7"
    assert [line.split() for line in ended.out.splitlines()] == [
        ["vllm:a/big", "262,144", "tokens", "free"],
        ["vllm:odd", "free"],
        ["vllm:small", "8,192", "tokens", "free"],
    ]


@pytest.mark.parametrize(("key", "sent"), [("", "Basic mine"), ('api_key = "the-key"', "Bearer the-key")])
async def test_models_are_listed_with_the_headers_that_requests_have(desk: Desk, key: str, sent: str) -> None:
    async with RawModelServer() as server:
        server.respond(lambda request: whole({"data": []}))
        headers = '{ authorization = "Basic mine", X-Team = "a" }'
        desk.write(f'[models.vllm]\nbase_url = "{server.url}/v1"\nheaders = {headers}\n{key}\n')
        await desk.here("models")
    assert (server.requests[0].headers["authorization"], server.requests[0].headers["x-team"]) == (sent, "a")


async def test_models_are_listed_without_a_key_where_none_is_set(desk: Desk) -> None:
    async with RawModelServer() as server:
        server.respond(lambda request: whole({"data": []}))
        desk.write(f'[models.vllm]\nbase_url = "{server.url}/v1"\n')
        await desk.here("models")
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize("type", ["openai", "openai-responses", "anthropic"])
async def test_check_online_asks_for_a_model_that_is_not_listed_and_tests_every_key(
    desk: Desk, type: ProtocolName
) -> None:
    async with ModelServer(api_key="the-right-key") as models:
        url = models.url(type)
        desk.write(SEVERAL.format(model="secret-preview", type=type, url=url, token=TOKEN))
        ended = await desk.here("check", "--online")
    assert f"ok  model: key accepted, {url} has the model secret-preview" in ended.out
    assert f"!!  key 2 of work: key rejected by {url}; see api_key in [models.work]" in ended.out
    assert "the-right-key" not in ended.out + ended.err
    assert [request.model for request in models.requests] == ["secret-preview"]


async def test_check_names_the_models_without_a_known_price(desk: Desk) -> None:
    desk.write('[agent]\nmodel = "groq:llama"\nfallback = ["openai:gpt-5"]\n')
    ended = await desk.call("check", GROQ_API_KEY="k", OPENAI_API_KEY="k")
    assert "no known price, count as free: groq:llama\n" in ended.out


async def test_check_online_checks_the_models_of_channels_and_of_voice_notes(desk: Desk) -> None:
    async with ModelServer(api_key="the-right-key") as models:
        listed, url = await _first_model(models), models.openai_url
        desk.write(
            f"""\
            agent.transcription_model = "openai:whisper-9"
            [models.openai]
            api_key = "the-right-key"
            base_url = "{url}"
            [channels.telegram]
            token = "{TOKEN}"
            api_url = "http://127.0.0.1:1"
            model = "openai:{listed}"
            """
        )
        ended = await desk.here("check", "--online")
    assert f"ok  model: key accepted, {url} has the model {listed}" in ended.out
    assert "!!  voice notes: key accepted, but" in ended.out
    assert "does not list the model whisper-9" in ended.out


@pytest.mark.parametrize(
    ("access", "users"),
    [
        ("", 'nobody yet; add allow = ["@your_name"] to [channels.work]'),
        ('allow = ["*"]\npair = true', "all members of the workspace"),
        ('allow = ["*"]\noutsiders = "allow"', "everybody"),
        ('allow = ["U1"]\nadmins = ["@ann"]', "U1, @ann"),
        ("pair = true", 'nobody yet; others get a pairing code, approved by "interject pair approve CODE"'),
        (
            'admins = ["@ann"]\npair = true',
            '@ann; others get a pairing code, approved by @ann or "interject pair approve CODE"',
        ),
    ],
)
def test_the_banner_names_allowed_users_and_missing_channels(desk: Desk, access: str, users: str) -> None:
    file = desk.write(f'[channels.work]\ntype = "slack"\nbot_token = "{TOKEN}"\napp_token = "{TOKEN}"\n{access}\n')
    text = " ".join(banner(load(file, {}, desk.home), None, "interject").split())
    assert f"work starting; allowed users (allowlist): {users} " in text
    assert "slack not configured" not in text
    for platform in ("telegram", "discord"):
        assert f"{platform} not configured; needs token and allow in [channels.{platform}]" in text
    assert TOKEN not in text


async def test_the_version_is_that_of_the_package(desk: Desk) -> None:
    ended = await desk.call("version")
    assert ended.out == f"interject {VERSION}\n"
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION


async def test_the_version_is_also_an_option(desk: Desk) -> None:
    assert (await desk.call("--version")).out == f"interject {VERSION}\n"


# --- name collisions ---


@pytest.mark.parametrize("package", PACKAGES)
async def test_a_folder_named_like_one_of_our_packages_is_a_clear_message(desk: Desk, package: str) -> None:
    module = desk.folder / package / "__init__.py"
    module.parent.mkdir()
    module.write_text("raise RuntimeError('must not be imported')\n")
    ended = await desk.call("check")
    assert (ended.code, ended.out) == (1, "")
    assert f'Python finds {module.parent} before Interject\'s own package "{package}"' in ended.err
    for way in ("pipx", "uv tool", "container image"):
        assert way in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("package", PACKAGES)
async def test_a_module_named_like_one_of_our_packages_is_a_clear_message(desk: Desk, package: str) -> None:
    module = desk.write("raise RuntimeError('must not be imported')\n", f"{package}.py")
    ended = await desk.call("version")
    assert (ended.code, ended.out) == (1, "")
    assert f"Python finds {module} before" in ended.err
    assert "Traceback" not in ended.err


async def test_the_installed_command_ignores_folders_of_the_current_directory(desk: Desk) -> None:
    (desk.folder / "config").mkdir()
    (desk.folder / "config" / "__init__.py").touch()
    assert (await desk.call("version", program=INSTALLED, PYTHONPATH="")).out == f"interject {VERSION}\n"


async def test_the_installed_command_names_a_collision_on_pythonpath(desk: Desk) -> None:
    (desk.folder / "gateway").mkdir()
    (desk.folder / "gateway" / "__init__.py").touch()
    ended = await desk.call("version", program=INSTALLED, PYTHONPATH=str(desk.folder))
    assert (ended.code, ended.out) == (1, "")
    assert f"Python finds {desk.folder / 'gateway'} before" in ended.err
    assert "Traceback" not in ended.err


async def test_a_folder_without_python_modules_is_no_collision(desk: Desk) -> None:
    (desk.folder / "config").mkdir()
    assert (await desk.call("version")).code == 0


async def test_an_import_of_the_library_names_a_collision(desk: Desk) -> None:
    desk.write("", "agent.py")
    ended = await desk.call("from interject import tool", program=(sys.executable, "-c"))
    assert ended.code == 1
    assert f"NameCollision: Name collision: Python finds {desk.folder / 'agent.py'} before" in ended.err


async def test_without_a_command_the_commands_are_shown(desk: Desk) -> None:
    ended = await desk.call()
    assert ended.code == 2
    assert "usage: interject" in ended.err


@pytest.mark.parametrize("found", [True, False], ids=["on the path", "not on the path"])
async def test_what_to_type_next_is_what_works_here(desk: Desk, found: bool) -> None:
    script = Path(sys.executable).with_name("interject")
    path = f"{script.parent}:/usr/bin:/bin" if found else "/usr/bin:/bin"
    ended = await desk.call("init", program=(str(script),), PATH=path)
    name = "interject" if found else str(script)
    assert ended.out == f'Wrote interject.toml. Next: "{name} check" validates it, "{name} run" starts the gateway.\n'

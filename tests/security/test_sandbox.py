"""What somebody can have the shell do from a chat: the real process, the real bubblewrap, a real database file.

Each attack is played twice: outside the sandbox, where it works, and with the default settings, where it does not.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

import psutil
import pytest

from agent.tools.sandbox import SandboxUnavailable, probe_sandbox
from config.load import load
from gateway.assembly.shell_policy import shell_policy
from tests.gateway.test_kill import process
from tests.servers.models import Call, ModelServer, Request, Say
from tests.servers.telegram import BotApi

KEY = "sk-the-key-of-the-model"

SETTINGS = """\
[agent]
model = "openai:test"
[models.openai]
api_key = "${{OPENAI_API_KEY}}"
base_url = "{models}"
[web]
port = 0
[channels.telegram]
token = "{token}"
api_url = "{api}"
allow = ["*"]
{more}
"""

OUTSIDE = '[tools.shell]\nsandbox = "none"\napproval = "never"\n'

Succeeded = Callable[["Desk", str], bool]


def tells(words: str) -> Succeeded:
    """The command's output has the words, or hides them: what is masked was read."""
    return lambda here, told: words.format(**here.names) in told or "[secret]" in told


def changes(file: str) -> Succeeded:
    """The file was written, not one of that name in a folder that only the command has seen."""
    return lambda here, told: (here.folder / file).exists() and "# mine" in (here.folder / file).read_text()


DATABASE = "import sqlite3; print(sqlite3.connect('{home}/interject.db').execute('select * from inbox').fetchall())"
CONNECT = "import socket; socket.create_connection(('127.0.0.1', {port})); print('connect' + 'ed')"
PANIC = "/proc/sys/kernel/panic"

ATTACKS: dict[str, tuple[str, Succeeded]] = {
    "the parent's environment": ("tr '\\0' '\\n' </proc/$PPID/environ | grep API_KEY", tells(KEY)),
    "the gateway's environment": ("cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n' | grep API_KEY", tells(KEY)),
    "what others have said": (f'python3 -c "{DATABASE}"', tells("my secret is swordfish")),
    "the same, byte by byte": ("cat {home}/interject.db* | grep -ao 'my secret is [a-z]*'", tells("swordfish")),
    "the token of the web chat": ("cat {home}/web-token", tells("{web_token}")),
    "the bot's token": ("cat {settings}", tells("{bot_token}")),
    "the settings": ("echo '# mine' >>{settings}", changes("interject.toml")),
    "a hook of one's own": ("echo '# mine' >{folder}/hook.py", changes("hook.py")),
    "the names of others' files": ("find / -name 'diary*' -not -path '/proc/*' 2>/dev/null", tells("diary")),
    "others' files": ("cat {home}/workspace/*/diary.txt", tells("dear diary")),
    "others' files, through a link": ("ln -s {home}/workspace all; cat all/*/diary.txt", tells("dear diary")),
    "services of this machine": (f'python3 -c "{CONNECT}"', tells("connected")),
    "processes": ("cat /proc/*/cmdline | tr '\\0' ' ' | grep -o '[i]nterject run'", tells("interject run")),
    "settings of the kernel": (f"(cat {PANIC} | tee {PANIC} >/dev/null) && echo changed", tells("changed")),
}  # fmt: skip

NEVER_WORKS = {"the parent's environment"}
"""Outside the sandbox, too: the parent is not the gateway, and has an environment without secrets."""

ONLY_AS_ROOT = {"settings of the kernel"}


@dataclass
class Desk:
    """A gateway in a process of its own; its model has the shell run the next command."""

    folder: Path
    api: BotApi
    models: ModelServer
    commands: list[str] = field(default_factory=list)
    finished: int = 0

    @property
    def home(self) -> Path:
        return self.folder / "home"

    async def run(self, command: str, *, user: int = 7) -> str:
        """What the model is told about a command that this person has had run in their private chat."""
        chat = self.api.private(user_id=user, name=f"Person {user}")
        self.commands.append(command.format(**self.names))
        await chat.say("go")
        wanted = f"Finished {self.finished + 1}"
        await chat.until(lambda chat: any(text == wanted for text in chat.texts) or None)
        return [message.text for message in self.models.requests[-1].messages if message.role == "tool"][-1]

    def obey(self, request: Request) -> object:
        if request.messages[-1].role == "tool":
            self.finished += 1
            return Say(f"Finished {self.finished}")
        return Call("shell", {"command": self.commands.pop(0)}) if self.commands else Say("Noted.")

    @property
    def names(self) -> dict[str, str]:
        return {
            "home": str(self.home),
            "folder": str(self.folder),
            "settings": str(self.folder / "interject.toml"),
            "port": self.api.url.rpartition(":")[2].partition("/")[0],
            "bot_token": self.api.token,
            "web_token": (self.home / "web-token").read_text().strip(),
        }


@asynccontextmanager
async def desk(folder: Path, more: str = "", prepare: Callable[[], None] = lambda: None) -> AsyncIterator[Desk]:
    """Bob has said a secret in his private chat, and has a diary in his workspace."""
    folder.mkdir()  # noqa: ASYNC240 - once, before anything runs
    prepare()
    async with BotApi() as api, ModelServer(api_key=KEY) as models:
        made = Desk(folder, api, models)
        models.respond(made.obey)
        text = SETTINGS.format(models=models.openai_url, token=api.token, api=api.url, more=more)
        (folder / "interject.toml").write_text(text)
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("OPENAI_API_KEY", KEY)
            async with process(folder / "interject.toml"):
                bob = api.private(user_id=8, name="Person 8")
                await bob.say("my secret is swordfish")
                await bob.until(lambda chat: "Noted." in chat.texts or None)
                await made.run("echo dear diary >diary.txt", user=8)
                yield made


@pytest.fixture(autouse=True)
async def _sandbox() -> None:
    try:
        await probe_sandbox()
    except SandboxUnavailable as error:
        pytest.skip(f"NO SANDBOX HERE, so no attack on it is tested: {error}")


@pytest.mark.timeout(240)
async def test_every_attack_that_works_outside_the_sandbox_fails_in_it(tmp_path: Path) -> None:
    outcomes: dict[str, list[bool]] = {}
    told: dict[str, list[str]] = {}
    for where, more in {"outside": OUTSIDE, "inside": ""}.items():
        async with desk(tmp_path / where, more) as here:
            for attack, (command, succeeded) in ATTACKS.items():
                told.setdefault(attack, []).append(await here.run(command))
                outcomes.setdefault(attack, []).append(succeeded(here, told[attack][-1]))
    without_effect = NEVER_WORKS if os.geteuid() == 0 else NEVER_WORKS | ONLY_AS_ROOT
    assert outcomes == {attack: [attack not in without_effect, False] for attack in ATTACKS}, json.dumps(told, indent=1)


async def test_an_allowed_person_has_a_working_shell_and_files_stay_in_the_conversation(tmp_path: Path) -> None:
    async with desk(tmp_path / "here") as here:
        assert await here.run("echo milk >list.txt && python3 -c 'print(6 * 7)'") == "42\n[exit code 0]"
        assert await here.run("cat list.txt; ls") == "milk\nlist.txt\n[exit code 0]"
        assert await here.run("ls", user=8) == "diary.txt\n[exit code 0]"
        folders = sorted((here.home / "workspace").iterdir())
        assert [folder.name.rpartition("-")[0] for folder in folders] == ["telegram-7", "telegram-8"]


async def test_what_a_command_starts_ends_with_it(tmp_path: Path) -> None:
    async with desk(tmp_path / "here") as here:
        sleep = f"300.{int(token_hex(3), 16)}"
        told = await here.run(
            f"setsid sleep {sleep} & (setsid nohup env -i sleep {sleep} >/dev/null 2>&1 &); echo left"
        )
        assert told.startswith("left\n")
        assert not [each for each in psutil.process_iter(["cmdline"]) if sleep in (each.info["cmdline"] or ())]


@pytest.mark.parametrize("umask", [0o000, 0o022])
async def test_state_is_readable_for_the_gateways_user_only_whatever_it_was_before(tmp_path: Path, umask: int) -> None:
    home = tmp_path / "here" / "home"
    before = os.umask(umask)
    try:
        async with desk_with_old_files(tmp_path / "here") as here:
            await here.run("echo x >file")
            for path in (home, *home.rglob("*")):
                if (home / "workspace") in path.parents and path.parent != home / "workspace":
                    continue  # What commands write is behind folders that are closed.
                assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    finally:
        os.umask(before)


@asynccontextmanager
async def desk_with_old_files(folder: Path) -> AsyncIterator[Desk]:
    """The data directory was made by somebody who let everybody in."""

    def prepare() -> None:
        for name in ("home", "home/media", "home/workspace"):
            (folder / name).mkdir(mode=0o755)
        with closing(sqlite3.connect(folder / "home" / "interject.db")):
            pass
        (folder / "home" / "web-token").write_text("an-old-token-of-some-length")
        (folder / "home" / "web-token").chmod(0o644)

    async with desk(folder, prepare=prepare) as here:
        yield here


async def test_a_link_in_the_place_of_the_folder_of_received_files_is_not_followed(tmp_path: Path) -> None:
    async with desk(tmp_path / "here") as here:
        await here.run("ln -s {folder} received")
        here.commands.append("ls")
        ann = here.api.private(user_id=7, name="Person 7")
        await ann.send_document(b"import os", "go", name="hook.py")
        await ann.until(lambda chat: f"Finished {here.finished}" in chat.texts or None)
        assert not list(here.folder.glob("*hook.py"))


async def test_new_keeps_the_files_and_says_so_and_new_clean_deletes_them(tmp_path: Path) -> None:
    async with desk(tmp_path / "here") as here:
        await here.run("echo milk >list.txt")
        ann = here.api.private(user_id=7, name="Person 7")
        await ann.say("/new")
        await ann.until(lambda chat: "The files of the workspace are kept" in chat.texts[-1] or None)
        assert (await here.run("cat list.txt")).startswith("milk")
        await ann.say("/new clean")
        await ann.until(lambda chat: "The files of the workspace were deleted" in chat.texts[-1] or None)
        assert await here.run("ls") == "[exit code 0]"
        assert await here.run("ls", user=8) == "diary.txt\n[exit code 0]"


@pytest.fixture
def optional_folder() -> Iterator[Path]:
    """A folder of /opt for this test."""
    folder = Path("/opt") / f"interject-{token_hex(4)}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"/opt is not writable: {error}")
    yield folder
    shutil.rmtree(folder)


async def test_of_opt_only_programs_of_the_search_path_are_shown(
    optional_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway itself is installed there, with its settings and a secret beside its programs."""
    app = optional_folder / "app"
    (optional_folder / "tools-2").mkdir()
    (optional_folder / "tools").symlink_to("tools-2")
    programs = [optional_folder / "bin" / "one", app / "bin" / "two", optional_folder / "tools" / "bin" / "three"]

    def prepare() -> None:
        for program in programs:
            program.parent.mkdir(parents=True)
            program.write_text(f"#!/bin/sh\necho {program.name} works\n")
            program.chmod(0o755)
        (optional_folder / "secrets.txt").write_text("the secret of opt")
        (optional_folder / "etc").mkdir()
        (optional_folder / "etc" / "secrets.txt").write_text("the secret of opt")
        (app / ".env").write_text("KEY=the secret of env")
        (app / "hook.py").write_text("# the secret of the hook\nclass Watch:\n    async def on_event(self, *_): ...\n")

    hook = '[[hooks]]\nname = "watch"\ntype = "python"\npath = "hook.py:Watch"\npoints = ["on_event"]\n'
    monkeypatch.setenv("PATH", os.pathsep.join([*(str(each.parent) for each in programs), os.environ["PATH"]]))
    async with desk(app, hook, prepare) as here:
        assert (await here.run("one; two; three")).startswith("one works\ntwo works\nthree works\n[exit code 0]")
        told = await here.run(f"grep -r 'secret of' {optional_folder}; ls -A {optional_folder}")
        assert "the secret" not in told
        assert set(told.split()) & {"bin", "app", "etc", "secrets.txt"} == {"bin", "app"}


async def test_files_that_the_settings_name_are_hidden_but_not_the_programs_that_run_them(tmp_path: Path) -> None:
    for name in ("instructions.md", "hook.py", "review.py", "run-review"):
        (tmp_path / name).write_text("")
    (tmp_path / "run-review").chmod(0o755)
    hooks = "".join(
        f'[[hooks]]\nname = "h{number}"\npoints = ["on_event"]\n{lines}\n'
        for number, lines in enumerate(
            (
                'type = "python"\npath = "hook.py:Watch"',
                f'type = "process"\ncommand = ["{sys.executable}", "review.py"]',
                'type = "process"\ncommand = ["./run-review"]',
            )
        )
    )
    settings = tmp_path / "interject.toml"
    settings.write_text(f'[agent]\nmodel = "demo"\ninstructions_file = "instructions.md"\n{hooks}')
    policy = (await shell_policy(load(settings, {}, tmp_path / "home"))).policy
    hidden = {path.resolve() for path in policy.hidden}
    names = ("interject.toml", ".env", "instructions.md", "hook.py", "review.py", "run-review")
    assert {tmp_path / name for name in names} <= hidden
    assert sys.executable not in map(str, policy.hidden)

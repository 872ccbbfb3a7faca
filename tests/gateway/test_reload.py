"""Reload: a running gateway takes over edited settings, all of them or nothing, and what runs goes on."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import httpx
import pytest

from agent.interrupt import race
from channels.address import Sender
from gateway.assembly.reload import MAX_FORMER
from gateway.lifecycle import supervision
from tests.engines import engines
from tests.gateway.play import until
from tests.gateway.stage import gateway
from tests.gateway.test_agents import telegram
from tests.gateway.test_cli import Desk
from tests.servers.models import Call, Gate, ModelServer, Request, Say, Turn
from tests.servers.telegram import BotApi, Chat
from tests.servers.webhooks import WebhookServer

ACCESS = 'allow = ["7", "8"]\nadmins = ["1"]'
CHANGED = "Settings changed"
REFUSED = "Not reloaded, everything stays as it was"
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
PROMPT = 'instructions = "Be brief."\n'


@pytest.fixture
async def models() -> AsyncIterator[ModelServer]:
    async with ModelServer(api_key="k") as server:
        server.respond(who_answers)
        yield server


def who_answers(request: Request) -> Turn:
    """The model that was asked, and the first line of its instructions."""
    return Say(f"{request.model}: {request.system.splitlines()[0]}")


def slowly(gate: asyncio.Event) -> Callable[[Request], Turn]:
    """Whoever says "slowly" is answered when the gate opens, after a call of a tool."""

    def answer(request: Request) -> Turn:
        if "slowly" not in request.last_user_text:
            return who_answers(request)
        if request.results:
            return who_answers(request)
        return [Gate(gate), Call("list_files", {})]

    return answer


def settings(folder: Path, models: ModelServer, *apis: BotApi, access: str = ACCESS, more: str = "") -> Path:
    file = telegram(folder, models, *apis, access=access, more=more)
    edit(file, "[agent]\n", f"[agent]\n{PROMPT}")
    return file


def edit(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))


async def reload(api: BotApi, words: str = CHANGED) -> str:
    root = api.private(1, "Root")
    seen = len(root.texts)
    await root.say("/reload")
    return await root.until(lambda chat: next((text for text in chat.texts[seen:] if words in text), None))


async def ask(chat: Chat, words: str, text: str = "hi") -> None:
    seen = len(chat.texts)
    await chat.say(text)
    await chat.until(lambda chat: any(words in text for text in chat.texts[seen:]))


async def test_model_instructions_and_who_may_write_change_at_once(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    file = settings(tmp_path, models, api)
    ann, eve = api.private(7, "Ann"), api.private(66, "Eve")
    async with gateway(file) as built:
        await ask(ann, "main: Be brief.")
        await ask(eve, "You are not on the allowlist")
        edit(file, 'model = "openai:main"', 'model = "openai:other"')
        edit(file, "Be brief.", "Be kind.")
        edit(file, 'allow = ["7", "8"]', 'allow = ["66"]')
        told = await reload(api)
        assert told == "Settings changed: [agent] instructions, [agent] model, [channels.telegram] allow."
        await ask(eve, "other: Be kind.")
        await ask(ann, "You are not on the allowlist")
        audited = [row.detail.get("changed") for row in await built.gateway.store.audit_since(LONG_AGO)]
    assert ["agent.instructions", "agent.model", "channels.telegram.allow"] in audited


async def test_a_larger_limit_for_all_workers_lets_what_waits_begin(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    file, gate = settings(tmp_path, models, api), asyncio.Event()
    edit(file, PROMPT, f"{PROMPT}max_running_turns_total = 1\n")
    models.respond(slowly(gate))
    ann, ben = api.private(7, "Ann"), api.private(8, "Ben")
    async with gateway(file) as built:
        await ann.say("slowly")
        await until(lambda: models.requests)
        await ben.say("hi")
        await until(lambda: built.gateway.dispatcher.waiting)
        edit(file, "max_running_turns_total = 1", "max_running_turns_total = 2")
        assert await reload(api) == "Settings changed: [agent] max_running_turns_total."
        await ben.hear("main: Be brief.")
        gate.set()
        await ann.hear("main: Be brief.")


async def test_a_running_task_keeps_what_it_began_with(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    file, gate = settings(tmp_path, models, api), asyncio.Event()
    models.respond(slowly(gate))
    ann, ben = api.private(7, "Ann"), api.private(8, "Ben")
    async with gateway(file):
        await ann.say("slowly")
        await models.until_held()
        edit(file, 'model = "openai:main"', 'model = "openai:other"')
        edit(file, "Be brief.", "Be kind.")
        await reload(api)
        await ask(ben, "other: Be kind.")
        gate.set()
        await ann.hear("main: Be brief.")
        await ask(ann, "other: Be kind.")


async def test_a_parked_task_goes_on_with_its_agent_as_it_is_now(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    question = Call("ask_user", {"question": "Which one?", "options": ["This", "That"]})
    models.respond(lambda request: who_answers(request) if request.results else question)
    file = settings(tmp_path, models, api)
    ann = api.private(7, "Ann")
    async with gateway(file):
        await ann.say("choose")
        await ann.hear("Which one?")
        edit(file, "Be brief.", "Be kind.")
        await reload(api)
        await ask(ann, "main: Be kind.", "This")


PYTHON_HOOK = '[[hooks]]\nname = "h"\ntype = "python"\npath = "hook.py:Hook"\npoints = ["before_model"]\n'


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("[limits]\nmesages_per_minute = 3\n", "limits.mesages_per_minute: no such setting"),
        ("[limits]\nmessages_per_minute = 0\n", "limits.messages_per_minute"),
        ('[agents.x]\nmodel = "nowhere:m"\n', "agents.x.model"),
        ('[agents.x]\ninstructions_file = "missing.md"\n', "agents.x.instructions_file: no such file"),
        ('[agents.x]\ninstructions_file = "latin1.md"\n', "an agent cannot be made"),
        ("[limits\n", "interject.toml:"),
        (PYTHON_HOOK, "hook.py"),
        ('[channels.second]\ntype = "telegram"\ntoken = "${NOT_SET}"\n', "NOT_SET"),
        ('[channels.second]\ntype = "telegram"\ntoken = "1:a"\nwebhook_url = "https://a.example"\n', "web server"),
    ],
)
async def test_invalid_settings_change_nothing(
    tmp_path: Path, models: ModelServer, api: BotApi, broken: str, words: str
) -> None:
    (tmp_path / "latin1.md").write_bytes("Sei höflich.".encode("latin-1"))
    file = settings(tmp_path, models, api)
    ann, eve = api.private(7, "Ann"), api.private(66, "Eve")
    async with gateway(file) as built:
        before = await built.gateway.store.settings_salt(), dict(built.gateway.channels)
        edit(file, 'allow = ["7", "8"]', 'allow = ["66"]')
        edit(file, "Be brief.", "Be kind.")
        file.write_text(file.read_text() + broken)
        told = await reload(api, REFUSED)
        assert words in told
        await ask(eve, "You are not on the allowlist")
        await ask(ann, "main: Be brief.")
        assert before == (await built.gateway.store.settings_salt(), dict(built.gateway.channels))
        edit(file, broken, "")
        await reload(api)
        await ask(eve, "main: Be kind.")


async def test_channels_come_and_go_and_others_stay(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    async with BotApi() as other, BotApi(token="777:another-bot") as third:
        third.me["id"] = 777
        file = settings(tmp_path, models, api, other)
        without = settings(tmp_path, models, api).read_text()
        settings(tmp_path, models, api, other)
        async with gateway(file):
            await ask(other.private(7, "Ann"), "main: Be brief.")
            file.write_text(without)
            assert "[channels.second] (removed)" in await reload(api)
            settings(tmp_path, models, api, third)
            assert "[channels.second] (new)" in await reload(api)
            await ask(third.private(8, "Ben"), "main: Be brief.")
            edit(
                file,
                f'token = "{third.token}"\napi_url = "{third.url}"',
                f'token = "{other.token}"\napi_url = "{other.url}"',
            )
            assert "[channels.second] token" in await reload(api)
            await ask(other.private(7, "Ann"), "main: Be brief.")
        assert len(api.called("getMe")) == 1


async def test_a_removed_channel_stops_what_its_people_run_and_its_replies_wait_until_it_is_back(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    async with BotApi() as other:
        gate = asyncio.Event()
        models.respond(slowly(gate))
        file = settings(tmp_path, models, api, other)
        both, ann = file.read_text(), other.private(7, "Ann")
        async with gateway(file):
            await ann.say("slowly")
            await models.until_held()
            settings(tmp_path, models, api)
            await reload(api)
            (asked,) = models.requests
            await asked.disconnection.wait()
            file.write_text(both)
            await reload(api)
            await ann.hear("the rights of whoever asked for it were changed")
            await ask(ann, "main: Be brief.")


async def test_a_file_that_is_empty_for_a_moment_changes_nothing(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    file = settings(tmp_path, models, api)
    ann = api.private(7, "Ann")
    async with gateway(file):
        written = file.read_text()
        file.write_text("\n")
        assert f"{file} is empty." in await reload(api, REFUSED)
        await ask(ann, "main: Be brief.")
        file.write_text(written.replace("Be brief.", "Be kind."))
        await reload(api)
        await ask(ann, "main: Be kind.")


async def test_what_a_reload_leads_to_is_tried_again_when_the_store_fails(
    tmp_path: Path,
    models: ModelServer,
    api: BotApi,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(supervision, "FIRST_PAUSE", 0.01)
    async with BotApi() as other:
        models.respond(slowly(asyncio.Event()))
        file = settings(tmp_path, models, api, other)
        both, ann, database = file.read_text(), other.private(7, "Ann"), tmp_path / "home" / "interject.db"
        async with gateway(file) as built:
            await ann.say("slowly")
            await models.until_held()
            settings(tmp_path, models, api)
            await reload(api)
            await until(lambda: not built.gateway.dispatcher.running())
            # A name that the settings no longer have is forgotten by the next reload.
            await built.gateway.store.resolve_names("telegram", ["@gone"], Sender("9", "Gone"))
            engines.refuse(database, "identities", "DELETE")
            file.write_text(both)
            await reload(api)
            await until(lambda: "a service failed and restarts" in caplog.text)
            engines.allow(database, "identities")
            await ann.hear("the rights of whoever asked for it were changed")


async def test_who_is_no_longer_listed_loses_what_runs(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    file = settings(tmp_path, models, api)
    models.respond(slowly(asyncio.Event()))
    ann, ben = api.private(7, "Ann"), api.private(8, "Ben")
    async with gateway(file):
        await ann.say("slowly")
        await models.until_held()
        edit(file, 'allow = ["7", "8"]', 'allow = ["8"]')
        await reload(api)
        await ann.hear("the rights of whoever asked for it were changed")
        await ask(ben, "main: Be brief.")


PROCESS = """\
import json, os, sys

print(os.getpid(), file=open("pids", "a"))
SAYS = "one"
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    match asked["method"]:
        case "initialize":
            version = asked["params"].get("protocolVersion", "")
            result = {"protocol": 1, "protocolVersion": version, "capabilities": {"tools": {}}}
            result["serverInfo"] = {"name": "odd", "version": "1"}
        case "tools/list":
            result = {"tools": [{"name": SAYS, "inputSchema": {"type": "object"}}]}
        case _:
            result = {"decision": "continue"}
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"""


COMMAND = f'command = ["{sys.executable}", "process.py"]\n'


@pytest.mark.parametrize(
    "section",
    [
        f'[[hooks]]\nname = "h"\ntype = "process"\n{COMMAND}points = ["before_tool"]\n',
        f'[mcp.odd]\n{COMMAND}sandbox = "none"\n',
    ],
    ids=["hook", "MCP server"],
)
async def test_a_process_goes_on_until_its_section_or_its_code_changes(
    tmp_path: Path, models: ModelServer, api: BotApi, section: str
) -> None:
    (tmp_path / "process.py").write_text(PROCESS)
    pids = tmp_path / "pids"

    def started() -> list[str]:
        return pids.read_text().split() if pids.exists() else []

    file = settings(tmp_path, models, api, more=section)
    async with gateway(file):
        await until(lambda: len(started()) == 1)
        edit(file, "Be brief.", "Be kind.")
        await reload(api)
        await ask(api.private(7, "Ann"), "main: Be kind.")
        assert len(started()) == 1
        (tmp_path / "process.py").write_text(PROCESS.replace("one", "two or three"))
        await reload(api, "No setting has changed")
        await until(lambda: len(started()) == 2)
        await until(lambda: not _runs(started()[0]))
        edit(file, section, "")
        await reload(api)
        await until(lambda: not _runs(started()[1]))
    assert len(started()) == 2


def _runs(pid: str) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_a_server_and_skills_that_are_added_are_there_for_the_next_task(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    (tmp_path / "process.py").write_text(PROCESS)
    (tmp_path / "skills" / "greeting").mkdir(parents=True)
    (tmp_path / "skills" / "greeting" / "SKILL.md").write_text("---\nname: greeting\ndescription: Greets.\n---\nHi.\n")
    models.respond(lambda request: Say(f"I have {' '.join(sorted(request.tools))}."))
    file, ann = settings(tmp_path, models, api), api.private(7, "Ann")
    async with gateway(file) as built:
        await ask(ann, "I have")
        assert "odd_one" not in models.requests[-1].tools
        await ask(ann, "There are no skills here", "/skills")
        more = f'[skills]\npaths = ["skills"]\n[mcp.odd]\n{COMMAND}sandbox = "none"\n'
        file.write_text(file.read_text() + more)
        await reload(api)
        await until(lambda: built.gateway.mcp.shared[0].status.state == "running")
        await ask(ann, "odd_one")
        await ask(ann, "/greeting", "/skills")
        await ask(ann, "odd", "/mcp")
        edit(file, more, "")
        await reload(api)
        await ask(ann, "There are no MCP servers", "/mcp")
        await ask(ann, "I have")
        assert "odd_one" not in models.requests[-1].tools


async def test_limits_hold_from_the_next_message_on(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    file, ann = settings(tmp_path, models, api), api.private(7, "Ann")
    async with gateway(file) as built:
        await ask(ann, "main: Be brief.")
        for limit, words in ((1, "Not taken"), (100, "main: Be brief.")):
            before = file.read_text()
            file.write_text(f"{before}[limits]\nmessages_per_minute = {limit}\n")
            assert not (await built.gateway.reload()).is_refused
            await ask(ann, words)
            file.write_text(before)


async def test_what_takes_effect_at_the_next_start_is_named(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    file = settings(tmp_path, models, api)
    async with gateway(file):
        edit(file, "[web]\n", "[web]\nport = 1234\n")
        edit(file, "shutdown_grace = 0", "shutdown_grace = 3")
        told = await reload(api, "at the next start")
        assert "No setting has changed" in told
        assert "[agent] shutdown_grace, [web] port" in told
        edit(file, "Be brief.", "Be kind.")
        assert "[web] port" in await reload(api)


async def test_a_new_key_is_masked_everywhere_at_once(
    tmp_path: Path, models: ModelServer, api: BotApi, caplog: pytest.LogCaptureFixture
) -> None:
    file, key = settings(tmp_path, models, api), "another-secret-key"
    models.respond(lambda request: Say(f"Your key is {key}."))
    async with gateway(file):
        await ask(api.private(7, "Ann"), f"Your key is {key}.")
        file.write_text(file.read_text() + f'[models.groq]\napi_key = "{key}"\n')
        await reload(api)
        await ask(api.private(7, "Ann"), "Your key is [secret].")


async def test_former_configurations_are_closed_and_their_number_is_bounded(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    file, gate = settings(tmp_path, models, api), asyncio.Event()
    models.respond(slowly(gate))
    ann = api.private(7, "Ann")
    async with gateway(file) as built:
        await ann.say("slowly")
        await models.until_held()
        for _ in range(MAX_FORMER):
            assert not (await built.gateway.reload()).is_refused
        refused = await built.gateway.reload()
        assert refused.is_refused
        assert "Wait until they end, or stop them" in refused.text
        gate.set()
        await ann.hear("main: Be brief.")
        await until_accepted(built.gateway.reload)


async def until_accepted(reload: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while (await reload()).is_refused:  # type: ignore[misc]  # noqa: ASYNC110 - closing has no event
            await asyncio.sleep(0.002)


async def test_a_channel_that_was_polled_is_posted_to_and_the_other_way_round(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    file, public = settings(tmp_path, models, api), 'webhook_url = "https://bot.example.org"\n'
    edit(file, "enabled = false", "port = 0")
    ann = api.private(7, "Ann")
    async with gateway(file) as built, httpx.AsyncClient(trust_env=False, timeout=30) as telegram:
        origin = str(built.link).split("/?token=")[0]
        path = f"{origin}/telegram/telegram/"
        await ask(ann, "main: Be brief.")
        assert (await telegram.post(path, json={})).status_code == 401
        edit(file, "[channels.telegram]\n", f"[channels.telegram]\n{public}")
        assert not (await built.gateway.reload()).is_refused
        (call,) = await api.until(lambda api: api.called("setWebhook"))
        message = {"message_id": 50, "date": 1_790_000_000, "chat": ann.card, "from": ann.people[0].card, "text": "hi"}
        secret = {"X-Telegram-Bot-Api-Secret-Token": call.params["secret_token"]}
        seen = len(ann.texts)
        update = {"update_id": 5000, "message": message}
        assert (await telegram.post(path, json=update, headers=secret)).status_code == 200
        await ann.until(lambda chat: len(chat.texts) > seen)
        edit(file, public, "")
        assert not (await built.gateway.reload()).is_refused
        assert (await telegram.post(path, json=update, headers=secret)).status_code == 401


async def test_webhooks_come_and_go(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    async with WebhookServer(secret) as server:
        more = f'[[webhooks]]\nurl = "{server.url}"\nsecret = "{secret}"\nevents = ["run.ended"]\n'
        file = settings(tmp_path, models, api)
        async with gateway(file):
            file.write_text(file.read_text() + more)
            await reload(api)
            ann = api.private(7, "Ann")

            async def chatter() -> None:
                while True:
                    await ask(ann, "main: Be brief.")

            # The webhook is told of what happens once it watches.
            await race(server.next("run.ended"), chatter())


# Any settings


@dataclass(frozen=True)
class Given:
    """Settings, with people who are listed and one who is not."""

    text: str
    people: tuple[int, ...]


def any_settings(random: Random, models: ModelServer, api: BotApi, first: int) -> Given:
    """Valid ones. The people's ids begin with `first`."""
    people = tuple(range(first, first + 4))
    lists: dict[str, list[int]] = {"allow": [], "members": [], "guests": []}
    for person in people[:3]:
        lists[random.choice(list(lists))].append(person)
    agents = {name: random.choice(["openai:main", "openai:other"]) for name in ("red", "blue") if random.random() < 0.6}
    enabled = random.sample(["read_file", "write_file", "list_files", "draw_chart", "todos"], random.randint(1, 5))
    lines = [
        "[agent]",
        f'model = "{random.choice(["openai:main", "openai:other", "openai:third"])}"',
        f'instructions = "Be {random.choice(["brief", "kind", "quick"])}."',
        f"tools = {json.dumps(random.choice([['*'], ['*_file', '*_files'], ['todos']]))}",
        "shutdown_grace = 0",
        f'[models.openai]\napi_key = "k"\nbase_url = "{models.openai_url}"',
        f'[channels.telegram]\ntoken = "{api.token}"\napi_url = "{api.url}"\nadmins = ["1"]',
        *(f"{name} = {json.dumps(list(map(str, listed)))}" for name, listed in lists.items() if listed),
        f"[tools]\nenabled = {json.dumps(enabled)}",
        f"[roles.guest]\ntools = {json.dumps(random.choice([[], ['todos'], ['read_file', 'draw_chart']]))}",
    ]
    for name, model in agents.items():
        lines.append(f'[agents.{name}]\nmodel = "{model}"\ninstructions = "I am {name}."')
        lines.append(f'[[routes]]\nagent = "{name}"\nperson = "{random.choice(people)}"')
    if random.random() < 0.5:
        lines.append("[limits]\nmessages_per_minute = 500")
    return Given("\n".join(lines) + "\n", people)


def all_it_is_given(request: Request) -> Turn:
    return Say(f"{request.model} | {request.system.splitlines()[0]} | {' '.join(sorted(request.tools))} | done")


async def seen(api: BotApi, given: Given) -> list[str]:
    """What each of the people is answered."""
    return [await answer_to(api.private(person, f"Person {person}")) for person in given.people]


async def answer_to(chat: Chat) -> str:
    count = len(chat.texts)
    await chat.say("hi")
    return await chat.until(lambda chat: next(filter(is_answer, chat.texts[count:]), None))


def is_answer(text: str) -> bool:
    """The model's, complete, or a refusal."""
    return " | done" in text or "Your user id is" in text


BREAKS = ("[limits]\nnope = 1\n", '[agents.red]\nmodel = "nowhere:x"\n[agents.red2]\nmodel = 3\n', "[[")


@pytest.mark.parametrize("seed", range(3))
async def test_after_any_reload_the_gateway_answers_as_one_that_was_started_with_these_settings(
    tmp_path: Path, models: ModelServer, api: BotApi, seed: int
) -> None:
    models.respond(all_it_is_given)
    random = Random(seed)
    file = tmp_path / "interject.toml"
    given = any_settings(random, models, api, 100)
    file.write_text(f"[web]\nport = 0\n{given.text}")
    async with gateway(file) as built:
        for step in range(2, 5):
            admitted = Given(given.text, given.people[:3])
            before = await seen(api, admitted)
            file.write_text(file.read_text() + random.choice(BREAKS))
            assert (await built.gateway.reload()).is_refused
            assert await seen(api, admitted) == before

            given = any_settings(random, models, api, 100 * step)
            file.write_text(f"[web]\nport = 0\n{given.text}")
            assert not (await built.gateway.reload()).is_refused
            reloaded = await seen(api, given)
            async with BotApi() as fresh_api:
                fresh = given.text.replace(api.url, fresh_api.url).replace(api.token, fresh_api.token)
                folder = tmp_path / str(step)
                folder.mkdir()
                (folder / "interject.toml").write_text(f"[web]\nport = 0\n{fresh}")
                async with gateway(folder / "interject.toml"):
                    assert reloaded == await seen(fresh_api, given)


# The process


async def test_the_command_asks_the_running_gateway(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("[web]\nport = 0\n")
    nobody = await desk.call("reload")
    assert nobody.code == 1
    assert "no gateway runs with the data directory" in nobody.err
    async with desk.running() as running:
        desk.write('[web]\nport = 0\n[agent]\ninstructions = "Be kind."\n')
        done = await desk.call("reload")
        assert (done.code, done.err) == (0, "")
        assert "[agent] instructions" in done.out
        desk.write('[web]\nport = 0\n[agent]\ninstruction = "Be kind."\n')
        refused = await desk.call("reload")
        assert refused.code == 1
        assert "interject.toml:4: agent.instruction: no such setting" in refused.err
        as_json = await desk.call("reload", "--json")
        assert json.loads(as_json.out)["refused"] is True
        ended = await running.end(signal.SIGTERM)
    assert ended.code == 0
    assert not (desk.home / "gateway.sock").exists()


@pytest.mark.engines("postgresql")
async def test_a_chat_with_a_gateway_of_its_own_does_not_share_the_data_directory_of_one_without_web(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    desk = Desk(tmp_path)
    settings(tmp_path, models, api, more=f'[store]\nurl = "{engines.url(tmp_path / "interject.db")}"\n')
    async with desk.running() as running:
        ended = await desk.call("chat", typed="hello")
        assert (ended.code, ended.out) == (1, "")
        assert f"{desk.home} is in use by process {running.process.pid}: stop that gateway" in ended.err
    models.respond(who_answers)
    assert (await desk.call("chat", typed="hello")).out == "main: Be brief.\n"


async def test_a_data_directory_with_a_long_name_has_a_socket_too(tmp_path: Path) -> None:
    desk = Desk(tmp_path / ("long" * 30))
    desk.folder.mkdir()
    desk.write("[web]\nport = 0\n")
    async with desk.running():
        assert (await desk.call("reload")).out == "No setting has changed.\n"


async def test_sighup_takes_over_the_settings_and_refuses_invalid_ones(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("[web]\nport = 0\n")
    async with desk.running() as running:
        assert running.process.stderr is not None
        for text, words in (
            ("[web]\nport = 0\nshow_reasoning = true\n", b"reloaded: Settings changed: `[web] show_reasoning`"),
            ("[web]\nport = 0\nshow_reasoning = 3\n", b"Not reloaded, everything stays as it was"),
            ('[web]\nport = 0\n[logging]\nlevel = "debug"\n', b"[logging] level"),
        ):
            desk.write(text)
            running.process.send_signal(signal.SIGHUP)
            assert words in await asyncio.wait_for(running.process.stderr.readline(), 30)
        ended = await running.end(signal.SIGTERM)
    assert ended.code == 0


HANGUPS = """\
import os, signal, sys


class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("gateway", "config", "agent"):
            os.kill(os.getpid(), signal.SIGHUP)


sys.meta_path.insert(0, Finder())
sys.argv[:] = ["interject", "run"]
from interject.command import main

sys.exit(main())
"""


async def test_a_hangup_at_any_import_does_not_end_the_process(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("[web]\nport = 0\n[agent]\nmax_stepps = 1\n")
    ended = await desk.call(program=(sys.executable, "-c", HANGUPS))
    assert ended.code == 2
    assert "max_stepps" in ended.err

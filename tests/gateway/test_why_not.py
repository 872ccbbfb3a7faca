"""`interject why-not` says of a message what the gateway then does with it."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from channels.address import Address, Sender
from gateway.cli.main import main
from gateway.store.arrivals import BOTS_IN_A_ROW, MAX_BOT_MESSAGES
from tests.gateway.play import inbound
from tests.gateway.stage import gateway, write_settings
from tests.servers.models import ModelServer, Say
from tests.servers.telegram import BotApi, Chat, Person

ANN = Person(7, "Ann", "ann")
EVE = Person(9, "Eve", "eve")
HELLO = "hello bot"

DENIES = """
[[hooks]]
name = "censor"
type = "python"
path = "censor.py:Censor"
points = ["on_message"]
"""
CENSOR = """
from interject import Deny


class Censor:
    async def on_message(self, where, message):
        return Deny("no greetings") if "hello" in message.text else message
"""


@dataclass(frozen=True)
class Case:
    """Who writes, where (a group?), under which settings of the channel; the gate that refuses, "" for none."""

    access: str
    gate: str
    sender: Person = EVE
    in_group: bool = False
    options: tuple[str, ...] = ()
    more: str = ""


CASES = {
    "listed by id": Case('allow = ["9"]', ""),
    "everybody": Case('allow = ["*"]', ""),
    "by an @name that is not resolved yet": Case('allow = ["@eve"]', "", options=("--handle", "eve")),
    "not listed": Case('allow = ["7"]', "access"),
    "the @name of somebody else": Case('allow = ["@ann"]', "access", options=("--handle", "eve")),
    "not paired": Case('allow = ["7"]\npair = true', "known"),
    "groups off": Case('allow = ["*"]\ngroups = "off"', "access", in_group=True),
    "not mentioned": Case('allow = ["*"]', "access", in_group=True, options=("--not-addressed",)),
    "all of a group": Case('allow = ["*"]\ngroups = "all"', "", in_group=True, options=("--not-addressed",)),
    "denied by a hook": Case('allow = ["*"]', "hooks", options=("--ask-hooks",), more=DENIES),
}


async def walk(folder: Path, *options: str) -> tuple[int, list[dict[str, Any]]]:
    """Calls the command in this process, which spares the start of another."""
    out = io.StringIO()
    given = ["why-not", "--channel", "telegram", *options, "--json", "--config", str(folder / "interject.toml")]
    with redirect_stdout(out):
        code = await asyncio.to_thread(main, given)
    return code, [json.loads(line) for line in out.getvalue().splitlines()]


def settings(folder: Path, api: BotApi, models: ModelServer, access: str, more: str = "") -> Path:
    file = write_settings(folder, api, models)
    file.write_text(file.read_text().replace('allow = ["*"]', f'admins = ["5"]\n{access}') + more)
    (folder / "censor.py").write_text(CENSOR)
    return file


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERJECT_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_it_names_the_gate_that_refuses_a_message_as_the_gateway_does(
    tmp_path: Path, api: BotApi, models: ModelServer, case: Case
) -> None:
    models.respond(lambda request: Say("Answered."))
    async with gateway(settings(tmp_path, api, models, case.access, case.more)) as built:
        chat: Chat = api.group(people=(EVE, ANN)) if case.in_group else api.private(9, "Eve", "eve")
        where = ("--chat", str(chat.id)) if case.in_group else ()
        code, findings = await walk(tmp_path, "--user", str(case.sender.id), "--text", HELLO, *where, *case.options)
        refused = [each["gate"] for each in findings if each["verdict"] == "refused"]
        assert refused == ([case.gate] if case.gate else [])
        assert code == (1 if case.gate else 0)
        assert all(each["advice"] for each in findings if each["verdict"] == "refused")
        assert await built.gateway.store.strangers() == (), "the walk was counted"
        await chat.say(
            HELLO if "--not-addressed" in case.options or not case.in_group else f"@interject_test_bot {HELLO}"
        )
        if not case.gate:
            await chat.hear("Answered.")
            return
        # What comes later is handled later.
        dan = api.private(5, "Dan")
        await dan.say("hi")
        await dan.hear("Answered.")
    assert "Answered." not in chat.texts
    assert len(models.requests) == 1


async def test_too_many_messages_are_named_with_their_limit(tmp_path: Path, api: BotApi, models: ModelServer) -> None:
    models.respond(lambda request: Say("Answered."))
    more = "[limits]\nmessages_per_minute = 2\n"
    async with gateway(settings(tmp_path, api, models, 'allow = ["*"]', more)):
        eve = api.private(9, "Eve")
        for count in (1, 2):
            await eve.say("hi")
            await eve.until(lambda eve, count=count: eve.texts.count("Answered.") == count)
        code, findings = await walk(tmp_path, "--user", "9")
        others, _ = await walk(tmp_path, "--user", "7")
    assert (code, findings[-1]["gate"]) == (1, "rate limit")
    assert "2 messages in the last minute" in findings[-1]["text"]
    assert others == 0


async def test_too_many_messages_of_bots_in_a_row_are_named(tmp_path: Path, api: BotApi, models: ModelServer) -> None:
    models.respond(lambda request: Say("Answered."))
    async with gateway(settings(tmp_path, api, models, 'allow = ["9", "99"]')) as built:
        eve, robot = api.private(9, "Eve"), ("--user", "99", "--bot", "--chat", "9")
        await eve.say("hi")
        await eve.hear("Answered.")
        address, bot = Address("telegram", "123456", "9"), Sender("99", "Robot", kind="bot")
        for _ in range(MAX_BOT_MESSAGES):
            assert (await walk(tmp_path, *robot))[0] == 0
            await built.gateway.deliver(inbound("beep", address=address, by=bot))
        code, findings = await walk(tmp_path, *robot)
        assert (code, findings[-1]["gate"]) == (1, "known")
        assert (findings[-1]["text"], findings[-1]["advice"]) == (BOTS_IN_A_ROW, "a person has to write in between")
        assert (await walk(tmp_path, "--user", "9"))[0] == 0


async def test_a_channel_that_is_not_there_and_a_gateway_that_does_not_run_are_named(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    async with gateway(settings(tmp_path, api, models, 'allow = ["*"]')):
        pass
    _, [*_, down] = await walk(tmp_path, "--user", "9")
    _, [unknown] = await walk(tmp_path, "--user", "9", "--channel", "telegrm")
    assert (down["gate"], down["advice"]) == ("gateway", "start it: interject run")
    assert 'Did you mean "telegram"?' in unknown["text"]


async def test_people_of_the_web_chat_are_those_of_its_section(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    file = settings(tmp_path, api, models, 'allow = ["7"]')
    web = 'trusted_header = "Remote-User"\ntrusted_proxies = ["127.0.0.1"]\nallow = ["bob"]\nadmins = ["ann"]'
    file.write_text(file.read_text().replace("port = 0", f"port = 0\n{web}"))
    async with gateway(file):
        of_web = ("--channel", "web", "--user")
        walks = {user: (await walk(tmp_path, *of_web, user))[1] for user in ("Ann", "bob", "owner", "eve")}
    told = {user: next(each for each in found if each["gate"] == "access") for user, found in walks.items()}
    assert [told[user]["text"].rpartition(" ")[2] for user in ("Ann", "bob", "owner")] == ["admin", "member", "admin"]
    assert (told["eve"]["verdict"], told["eve"]["advice"]) == ("refused", 'add "eve" to allow of [web]')


async def test_a_program_needs_a_key_that_may_write(tmp_path: Path, api: BotApi, models: ModelServer) -> None:
    async with gateway(settings(tmp_path, api, models, 'allow = ["7"]')) as built:
        made = [await built.gateway.store.create_api_key(name, name, by="test") for name in ("read", "chat")]
        walks = [await walk(tmp_path, "--user", f"api:{key.key.id}") for key in made]
        _, [*_, unknown] = await walk(tmp_path, "--user", "api:0000000000")
    assert [code for code, _ in walks] == [1, 0]
    assert walks[0][1][-1]["gate"] == unknown["gate"] == "access"
    assert "interject keys list" in unknown["advice"]

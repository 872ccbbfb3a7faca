"""Who is signed in sees the groups that they have written in as long as they are in them."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from channels.address import Address
from channels.channel import Channel, Unreachable
from channels.discord.api import Rest
from channels.discord.readers import can_read
from channels.memory import MemoryChannel
from channels.web.parse import OWNER
from gateway.api.caller import Caller
from gateway.inbound.memberships import CHECK_AGE, KEPT, RETRY, Memberships
from tests.api.conftest import Api, control_api
from tests.api.test_login import MENTION, WEB, browser, link, signed_in_on_slack, slack_section
from tests.servers.discord import ANN, BOB, Discord, Place
from tests.servers.models import ModelServer, Say
from tests.servers.slack import Slack
from tests.servers.telegram import BotApi, Person

ANN_ON_TELEGRAM = Person(7, "Ann")
TEAM = Address("memory", "bot", "team", kind="group")


async def kinds(client: httpx.AsyncClient, path: str = "/api/v1/conversations") -> list[str]:
    return sorted(each["kind"] for each in (await client.get(path)).json()["conversations"])


@pytest.mark.parametrize("left", [False, True])
async def test_on_telegram(tmp_path: Path, models: ModelServer, api: BotApi, left: bool) -> None:
    models.respond(lambda _: Say("Hello."))
    access = 'members = ["7"]\ngroups = "all"'
    async with control_api(tmp_path, api, models, access=access, web=WEB) as control:
        group, ann = api.group(people=(ANN_ON_TELEGRAM, Person(8, "Bob"))), api.private(7, "Ann")
        await group.say(f"{MENTION} hi")
        await group.hear("Hello.")
        await ann.say("hi")
        await ann.hear("Hello.")
        if left:
            group.people = [Person(8, "Bob")]
        async with browser(control, await link(ann)) as client:
            seen = await kinds(client)
    assert seen == (["direct"] if left else ["direct", "group"])


@pytest.mark.parametrize("left", [False, True])
async def test_on_slack(tmp_path: Path, models: ModelServer, api: BotApi, slack: Slack, left: bool) -> None:
    models.respond(lambda _: Say("Hello."))
    ann = slack.person("Ann")
    more = slack_section(slack, f'members = ["{ann.id}"]\ngroups = "all"')
    async with control_api(tmp_path, api, models, more=more, web=WEB) as control:
        await slack.connected()
        channel = slack.channel("general", [ann])
        await channel.say(f"{slack.mention} hi", by=ann)
        await channel.hear("Hello.")
        if left:
            channel.people.remove(ann)
        seen = await _kinds_on_slack(control, await signed_in_on_slack(control, slack, ann))
    assert seen.count("group") == (0 if left else 1)


async def _kinds_on_slack(control: Api, secret: str) -> list[str]:
    async with control.using(secret) as signed_in:
        return await kinds(signed_in, "/conversations")


def _everybody(place: Place) -> None:
    pass


def _not_there(place: Place) -> None:
    assert place.guild is not None
    del place.guild.people[BOB.id]


def _hidden(place: Place) -> None:
    """Only for a role that Bob does not have."""
    assert place.guild is not None
    place.guild.permissions[place.guild.id] = VIEW
    place.overwrites.append(_overwrite(place.guild.id, 0, deny=VIEW))


def _hidden_but_for_bob(place: Place) -> None:
    _hidden(place)
    place.overwrites.append(_overwrite(BOB.id, 1, allow=VIEW))


def _hidden_but_for_a_role(place: Place) -> None:
    _hidden(place)
    assert place.guild is not None
    role = place.guild.role("readers", [BOB])
    place.guild.permissions[role] = 0
    place.overwrites.append(_overwrite(role, 0, allow=VIEW))


def _no_permission(place: Place) -> None:
    assert place.guild is not None
    place.guild.permissions[place.guild.id] = 0


VIEW = 1 << 10


def _overwrite(id: int, kind: int, *, allow: int = 0, deny: int = 0) -> dict[str, object]:
    return {"id": str(id), "type": kind, "allow": str(allow), "deny": str(deny)}


@pytest.mark.parametrize(
    ("change", "readable"),
    [
        (_everybody, True),
        (_not_there, False),
        (_hidden, False),
        (_hidden_but_for_bob, True),
        (_hidden_but_for_a_role, True),
        (_no_permission, False),
    ],
)
async def test_on_discord_permissions_decide_also_for_threads(discord: Discord, change: object, readable: bool) -> None:
    place = discord.channel(people=(ANN, BOB))
    thread = await place.thread("More", by=ANN)
    assert callable(change)
    change(place)
    rest = Rest(discord.token, discord.api_url)
    try:
        found = [await can_read(rest.request, str(each.id), str(BOB.id)) for each in (place, thread)]
        owner = await can_read(rest.request, str(place.id), str(ANN.id))
    finally:
        await rest.close()
    assert (found, owner) == ([readable, readable], True)


async def test_on_discord_a_private_thread_is_for_those_in_it(discord: Discord) -> None:
    place = discord.channel(people=(ANN, BOB))
    assert place.guild is not None
    place.guild.permissions[place.guild.id] = VIEW
    thread = await place.thread("Secret", by=ANN)
    thread.kind = 12
    rest = Rest(discord.token, discord.api_url)
    try:
        thread.people = [ANN, BOB]
        inside = await can_read(rest.request, str(thread.id), str(BOB.id))
        thread.people = [ANN]
        outside = await can_read(rest.request, str(thread.id), str(BOB.id))
    finally:
        await rest.close()
    assert (inside, outside) == (True, False)


class Team(MemoryChannel):
    """A platform that says who is in its groups, or does not answer."""

    def __init__(self) -> None:
        super().__init__("memory")
        self.members: set[str] | None = {"7"}
        self.asked = 0

    async def is_member(self, address: Address, person: str) -> bool:
        self.asked += 1
        if self.members is None:
            raise Unreachable("the network is gone")
        return person in self.members


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


async def test_an_answer_holds_for_a_while_and_a_silent_platform_ends_it_later() -> None:
    team, clock = Team(), Clock()
    memberships = Memberships({"memory": team}, clock)

    async def sees(after: float) -> bool:
        clock.time += after
        return TEAM in await memberships.open_to([TEAM], "7")

    assert await sees(0)
    team.members = set()
    assert await sees(CHECK_AGE - 1), "the platform is not asked again yet"
    assert team.asked == 1
    assert not await sees(1)
    team.members = {"7"}
    assert await sees(CHECK_AGE)
    team.members = None
    assert await sees(CHECK_AGE), "the last answer holds"
    asked = team.asked
    assert await sees(RETRY - 1)
    assert team.asked == asked
    assert not await sees(KEPT)
    team.members = {"7"}
    assert await sees(RETRY)


async def test_where_the_platform_tells_nothing_of_groups_only_direct_chats_are_seen() -> None:
    channels: dict[str, Channel] = {"memory": MemoryChannel("memory")}
    direct = Address("memory", "bot", "7")
    assert await Memberships(channels).open_to([TEAM, direct], "7") == {direct}


@pytest.mark.parametrize(
    ("now", "before", "covers"),
    [
        (None, None, True),
        (None, ("a",), True),
        (("a",), None, False),
        (("a", "b"), ("a",), True),
        (("a",), ("a", "b"), False),
    ],
)
def test_a_stream_goes_on_only_if_its_caller_sees_as_much_as_before(
    now: tuple[str, ...] | None, before: tuple[str, ...] | None, covers: bool
) -> None:
    assert Caller(OWNER, "chat", now).covers(Caller(OWNER, "chat", before)) is covers
    assert not Caller(OWNER, "read", now).covers(Caller(OWNER, "chat", before))

"""Who may press what in a group: the buttons of other people, pressed by members, guests and admins."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol

import pytest

from tests.gateway.play import until
from tests.gateway.test_images import drawing, draws
from tests.security.test_identities import Home, on_slack, on_telegram
from tests.servers.images import ImageServer
from tests.servers.models import Call, Fail, ModelServer, Pause, Say
from tests.servers.slack import Place, Slack
from tests.servers.telegram import BotApi, Chat
from tests.servers.telegram import Person as TelegramPerson

ONLY_ANN = "Only Ann and admins may use"
MAY_ONLY_STOP = "You may not let a task go beyond a limit here, but you may stop it."
MAY_NOT_DECIDE = "Only admins and the person who started the task may decide this."
ACCESS = 'allow = ["{ann}", "{ben}"]\nadmins = ["{root}"]\nguests = ["{gus}"]\ngroups = "all"\n'
LIMITED = "[models.openai.test]\nprice = { input = 10.0, output = 10.0 }\n[limits]\nturn_cost = 0.000001\n"
ASKS_FIRST = '[tools.write_file]\napproval = "once"\n'


class Room(Protocol):
    """A group with Ann and Ben, who are members, Gus, a guest, and Root, an admin."""

    home: Home
    sign: str
    """What an unknown command begins with that is meant for the bot."""

    async def connected(self) -> None: ...
    async def say(self, text: str, by: str) -> None: ...
    async def press(self, label: str, by: str) -> None: ...
    async def hear(self, text: str, count: int = 1) -> None:
        """Returns when so many of the bot's messages have the text."""


class SlackRoom:
    def __init__(self, folder: Path, models: ModelServer, slack: Slack, more: str) -> None:
        self.sign = f"{slack.mention} !"
        self._server = slack
        self._people = {name: slack.person(name) for name in ("Ann", "Ben", "Gus", "Root")}
        access = ACCESS.format(**{name.lower(): person.id for name, person in self._people.items()})
        self.home = on_slack(folder, models, slack, access + more)
        self._place: Place = slack.channel("team", list(self._people.values()))
        self._root: str | None = None

    async def connected(self) -> None:
        await self._server.connected()

    async def say(self, text: str, by: str) -> None:
        said = await self._place.say(text, by=self._people[by], thread=self._root)
        self._root = self._root or said["ts"]

    async def press(self, label: str, by: str) -> None:
        shown = await self._place.until(
            lambda place: next((each for each in reversed(place.messages) if label in each.labels), None)
        )
        await self._place.press(shown, label, by=self._people[by])

    async def hear(self, text: str, count: int = 1) -> None:
        await self._place.until(lambda place: sum(text in each.text for each in place.messages) >= count)


class TelegramRoom:
    sign = "/"

    def __init__(self, folder: Path, models: ModelServer, api: BotApi, more: str) -> None:
        self._people = {name: TelegramPerson(id, name) for id, name in enumerate(("Ann", "Ben", "Gus", "Root"), 7)}
        access = ACCESS.format(**{name.lower(): person.id for name, person in self._people.items()})
        self.home = on_telegram(folder, models, api, access + more)
        self._chat: Chat = api.group(people=list(self._people.values()))

    async def connected(self) -> None:
        """Telegram keeps what is said until it is fetched."""

    async def say(self, text: str, by: str) -> None:
        await self._chat.say(text, sender=self._people[by])

    async def press(self, label: str, by: str) -> None:
        shown, data = await self._chat.until(
            lambda chat: next(
                (
                    (each, str(button["callback_data"]))
                    for each in reversed(chat.messages)
                    for button in each.buttons
                    if button["text"] == label
                ),
                None,
            )
        )
        await self._chat.press(shown, data, sender=self._people[by])

    async def hear(self, text: str, count: int = 1) -> None:
        await self._chat.until(lambda chat: sum(text in each.words for each in chat.messages) >= count)


Enter = Callable[[str], Room]
"""The room, with these further sections of the settings."""


@pytest.fixture(params=["slack", "telegram"])
async def enter(request: pytest.FixtureRequest, tmp_path: Path, models: ModelServer) -> AsyncIterator[Enter]:
    if request.param == "slack":
        async with Slack() as slack:
            yield lambda more: SlackRoom(tmp_path, models, slack, more)
    else:
        async with BotApi() as api:
            yield lambda more: TelegramRoom(tmp_path, models, api, more)


async def pressed_and_waiting(room: Room, text: str) -> None:
    """The press has become a message with this text, which no task has read, and what it does is done."""
    await until(lambda: any(text in each for (each,) in room.home.sql(WAITING)))
    await room.say(f"{room.sign}status", by="Ben")
    await room.hear("Queued messages: 1.")


WAITING = "SELECT text FROM inbox WHERE kind = 'new' AND state = 'waiting'"


@pytest.mark.parametrize("presser", ["Ann", "Root"])
async def test_a_failed_task_is_run_again_by_who_began_it_and_by_admins(
    enter: Enter, models: ModelServer, presser: str
) -> None:
    models.script(Fail(400), Say("Done."))
    room = enter("")
    async with room.home.running():
        await room.connected()
        await room.say("tidy up", by="Ann")
        for other in ("Ben", "Gus"):
            await room.press("Try again", by=other)
        await room.hear(ONLY_ANN, 2)
        assert len(models.requests) == 1
        await room.press("Try again", by=presser)
        await room.hear("Done.")


async def test_an_unknown_command_is_sent_as_text_by_its_sender_only(enter: Enter, models: ModelServer) -> None:
    models.script(Say("A path."))
    room = enter("")
    async with room.home.running():
        await room.connected()
        await room.say(f"{room.sign}dance", by="Ann")
        for other in ("Ben", "Gus", "Root"):
            await room.press("Send it as text", by=other)
        await room.hear("somebody else's", 3)
        assert models.requests == []
        await room.press("Send it as text", by="Ann")
        await room.hear("A path.")


async def test_a_guests_unknown_command_sent_as_text_does_not_interrupt_a_members_task(
    enter: Enter, models: ModelServer
) -> None:
    models.script([Pause(), Say("For Ann.")], Say("For Gus."))
    room = enter("")
    async with room.home.running():
        await room.connected()
        await room.say("build it", by="Ann")
        await models.until_held()
        await room.say(f"{room.sign}dance", by="Gus")
        await room.press("Send it as text", by="Gus")
        await pressed_and_waiting(room, "/dance")
        models.release()
        await room.hear("For Ann.")
        await room.hear("For Gus.")
    assert not models.requests[0].disconnected
    assert "dance" in models.requests[1].messages[-1].text


async def test_a_guest_who_presses_variation_does_not_interrupt_a_members_task(
    enter: Enter, models: ModelServer
) -> None:
    models.script(draws(), Say("Drawn."), [Pause(), Say("For Ann.")], Say("For Gus."))
    async with ImageServer() as images:
        room = enter(drawing(images))
        async with room.home.running():
            await room.connected()
            await room.say("draw", by="Ann")
            await room.hear("Drawn.")
            await room.say("build it", by="Ann")
            await models.until_held()
            await room.press("Variation", by="Gus")
            await pressed_and_waiting(room, "Draw a variation")
            models.release()
            await room.hear("For Ann.")
            await room.hear("For Gus.")
    held, last = models.requests[2:]
    assert not held.disconnected
    assert "generate_image" in held.tools
    assert "generate_image" not in last.tools


@pytest.mark.parametrize("decider", ["Ann", "Root"])
async def test_a_call_is_approved_by_who_began_the_task_and_by_admins(
    enter: Enter, models: ModelServer, decider: str
) -> None:
    models.script(Call("write_file", {"path": "note.txt", "content": "hello"}), Say("Written."))
    room = enter(ASKS_FIRST)
    async with room.home.running():
        await room.connected()
        await room.say("write it down", by="Ann")
        for other in ("Ben", "Gus"):
            await room.press("Allow once", by=other)
        await room.hear(MAY_NOT_DECIDE, 2)
        assert len(models.requests) == 1
        await room.press("Allow once", by=decider)
        await room.hear("Written.")


async def test_only_an_admin_lets_a_task_go_beyond_a_limit(enter: Enter, models: ModelServer) -> None:
    room = enter(LIMITED)
    async with room.home.running():
        await room.connected()
        await room.say("count", by="Ann")
        await room.press("Continue", by="Ann")
        await room.hear(MAY_ONLY_STOP)
        assert not models.requests
        await room.press("Continue", by="Root")
        await room.hear("Extended by Root")
        assert not models.requests, "it asks again at the next limit"
        await room.press("Stop here", by="Ann")
        await room.hear("limit reached, and Ann chose to stop")

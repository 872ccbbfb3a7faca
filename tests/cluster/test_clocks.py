"""Workers whose clocks differ agree on how long people have to decide, and on when a task is due."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.schedules import Timing
from channels.address import Address, Sender
from gateway.sessions import session_key
from gateway.store import open_store
from tests.cluster.fleet import fleet
from tests.engines import engines
from tests.gateway.play import until
from tests.gateway.stage import write_settings
from tests.servers.models import Call, ModelServer, Request, Say
from tests.servers.telegram import BotApi

pytestmark = pytest.mark.engines("postgresql")

AHEAD = 7200
"""Seconds by which one of the clocks is wrong: more than people have, so that it shows at once."""

SETTINGS = '[tools]\napproval_expires = 600\n[tools.shell]\napproval = "always"\n'
LEFT = "SELECT deadline - extract(epoch from clock_timestamp()) FROM turns WHERE parked"


def asks_first(request: Request) -> list[object]:
    person = [message for message in request.messages if message.role == "user"]
    if request.messages[-1].role == "tool":
        return [Say(f"Done {len(person)}.")]
    return [Call("shell", {"command": "echo it"})]


async def test_a_worker_whose_clock_is_wrong_neither_expires_nor_prolongs_what_people_have_to_decide(
    tmp_path: Path,
) -> None:
    async with BotApi() as api, ModelServer() as models:
        models.respond(asks_first)
        ann = api.private(user_id=7, name="Ann")
        async with fleet(write_settings(tmp_path, api, models, more=SETTINGS), "right", apart=["wrong"]) as workers:
            workers.clocks["wrong"].move(AHEAD)
            await ann.say("first")
            await ann.until(lambda chat: any("May I use" in text for text in chat.texts))
            await workers.start("wrong")
            await workers.alive("wrong")
            # It has looked for deadlines by the time at which it listens.
            await workers.end("right")
            await ann.say("yes")
            await ann.hear("Done 1.")
            await ann.say("second")
            await ann.until(lambda chat: sum("May I use" in text for text in chat.texts) == 2)
            await workers.start("right")
            await workers.alive("right")
            await until(lambda: engines.sql(workers.database, LEFT))
            [(left,)] = engines.sql(workers.database, LEFT)
            assert 500 < left <= 600
            await ann.say("yes")
            await ann.hear("Done 2.")


async def test_a_worker_whose_clock_is_ahead_does_no_scheduled_task_before_its_time(tmp_path: Path) -> None:
    async with BotApi() as api, ModelServer() as models:
        models.respond(lambda request: Say(f"Done: {request.messages[-1].text}"))
        settings = write_settings(tmp_path, api, models)
        ann = api.private(user_id=7, name="Ann")
        async with fleet(settings, apart=["wrong"]) as workers:
            workers.clocks["wrong"].move(AHEAD)
            async with open_store(workers.url) as store:
                for text, seconds in (("later", AHEAD / 2), ("now", -1)):
                    due = datetime.fromtimestamp(await store.now() + seconds, UTC)
                    place = Address("telegram", api.token.partition(":")[0], "7")
                    await store.add_schedule(
                        session_key(place), place, Sender("7", "Ann"), text, text, due, Timing("", "UTC")
                    )
            await workers.start("wrong")
            await ann.until(lambda chat: any("now" in text for text in chat.texts))
            await until(lambda: len(engines.sql(workers.database, "SELECT task FROM schedules")) == 1)
            assert engines.sql(workers.database, "SELECT task FROM schedules") == [("later",)]

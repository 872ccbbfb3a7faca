"""Workers that send into one chat share the limit of its platform: what that puts off is shown later, and once."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.cluster.sites import two_sites
from tests.engines import engines
from tests.gateway.stage import write_settings
from tests.servers.models import Gate, ModelServer, Say
from tests.servers.telegram import BotApi

pytestmark = pytest.mark.engines("postgresql")

TOPICS = [f"topic {number}" for number in range(6)]


@pytest.mark.timeout(120)
async def test_answers_in_the_topics_of_a_chat_arrive_once_although_two_workers_exceed_its_limit(
    tmp_path: Path, models: ModelServer
) -> None:
    go_on = asyncio.Event()
    models.respond(lambda request: [Say("Well. "), Gate(go_on), Say("Here you are.")])
    async with BotApi(rate_limits=True) as api:
        settings = write_settings(tmp_path, api, models)
        settings.write_text(settings.read_text().replace("[agent]", "[agent]\nmax_running_turns = 3"))
        async with two_sites(settings):
            forum = api.forum()
            for topic in TOPICS:
                await forum.say("@interject_test_bot hi", topic=forum.topic(topic))
            # Three of the turns run on the worker that does not listen.
            await models.until(len(TOPICS))
            go_on.set()
            await forum.until(lambda forum: len(answers(forum.texts)) == len(TOPICS), timeout=90)
        workers = engines.sql(tmp_path / "interject.db", "SELECT worker, count(*) FROM turns GROUP BY worker")
    assert sorted(count for _, count in workers) == [3, 3]
    assert any(refusal.status == 429 for refusal in api.refusals)
    assert Counter(forum.texts) == {"Well. Here you are.": len(TOPICS)}


def answers(texts: list[str]) -> list[str]:
    return [text for text in texts if text.endswith("Here you are.")]

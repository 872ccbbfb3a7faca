"""What happens to running turns when their worker ends, as at a deploy."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gateway import VERSION
from tests.cluster.fleet import fleet
from tests.engines import engines
from tests.gateway.stage import write_settings
from tests.servers.models import Call, ModelServer, Request, Say
from tests.servers.telegram import BotApi

pytestmark = pytest.mark.engines("postgresql")

SLOW = 1.5


def in_steps(request: Request) -> list[object]:
    """Three calls that take their time, each with words before it, then an answer."""
    done = sum(len(message.calls) for message in request.messages)
    if done == 3:
        return [Say("All done.")]
    return [Say(f"Step {done + 1}. "), Call("shell", {"command": f"sleep {SLOW}; echo {done + 1} >> steps.txt"})]


def settings_for(folder: Path, api: BotApi, models: ModelServer, lease: float = 30.0) -> Path:
    """With a lease that is longer than the test: nobody goes on because of a lease that has run out."""
    file = write_settings(folder, api, models, more=f"[store]\nlease = {lease}\n")
    agent = f'[agent]\nworkspace = "{folder / "workspace"}"\nshutdown_grace = 20'
    file.write_text(file.read_text().replace("[agent]", agent, 1).replace("shutdown_grace = 0\n", "", 1))
    return file


async def test_a_turn_goes_on_elsewhere_in_the_same_message_when_its_worker_ends(tmp_path: Path) -> None:
    async with BotApi() as api, ModelServer() as models:
        models.respond(in_steps)
        settings = settings_for(tmp_path, api, models)
        ann = api.private(user_id=7, name="Ann")
        async with fleet(settings, "one", "two") as workers:
            await ann.say("do it")
            await ann.until(lambda chat: any("Step 1" in text for text in chat.texts))
            first = workers.holder("telegram")
            assert await workers.end(first) == 0
            await ann.hear("All done.")
            await ann.say("and again")
            await ann.until(lambda chat: sum("All done." in text for text in chat.texts) == 2)
            (second,) = workers.processes
            connector = f"telegram:{api.token.partition(':')[0]}"
            logs = {name: (tmp_path / f"{name}.log").read_text() for name in (first, second)}
        assert [text.count("All done.") for text in ann.texts] == [1, 1], "each answer is one message"
        assert (tmp_path / "workspace" / "steps.txt").read_text().split() == ["1", "2", "3"], "no call was run twice"
        entries = [json.loads(entry) for (entry,) in engines.sql(workers.database, "SELECT entry FROM turn_log")]
        assert not [entry for entry in entries if entry["kind"] == "resumed"], "nothing was interrupted"
        ids = {
            name: re.findall(rf"worker (\w+) joined: host \S+, version {re.escape(VERSION)}$", log, re.M)
            for name, log in logs.items()
        }
        (former,), (next_one,) = ids[first], ids[second]
        turn = engines.sql(workers.database, "SELECT id FROM turns ORDER BY number")[0][0]
        assert f"handed over 1 turn to the other workers: {turn}\n" in logs[first]
        assert f"{connector}: worker {former} has handed this over\n" in logs[first]
        assert f"{connector}: worker {next_one} holds this from now on\n" in logs[second]

"""Many messages in a moment while the model answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent.log import MessagesRead
from agent.model import Request
from agent.models.scripted import Script, ScriptedModel
from tests.gateway.play import playing


def answer_the_last_line(request: Request) -> Script:
    read = [entry for entry in request.transcript if isinstance(entry, MessagesRead)]
    return "All read." if read[-1].messages[-1].text == "line 19" else ["Well", asyncio.Event()]


async def test_the_first_of_many_quick_messages_cuts_at_once_and_the_others_are_read_together(tmp_path: Path) -> None:
    model = ScriptedModel(*[answer_the_last_line] * 30)
    async with playing(tmp_path, model) as play:
        await play.say("go")
        await play.reply("Well", done=False)
        for number in range(20):
            await play.say(f"line {number}")
        await play.reply("All read.")
    assert len(model.requests) <= 4

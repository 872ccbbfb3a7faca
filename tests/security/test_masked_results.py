"""What own tools return is without known secrets: in its text, its sources and the replies that it suggests."""

from __future__ import annotations

import json
from pathlib import Path

from tests.gateway.test_from_settings import KEY, person
from tests.servers.models import Call, ModelServer, Request, Say, Turn

OWN_TOOL = f'''
from interject import SuggestedReply, ToolContext, ToolResult, tool


@tool(effect="read")
async def look(context: ToolContext) -> ToolResult:
    """Looks."""
    again = SuggestedReply("Again", "look again with {KEY}")
    file = await context.media.put(b"seen", "seen.txt")
    sources = ("https://a.example/?key={KEY}",)
    return ToolResult("saw {KEY}", (file,), suggestions=(again,), foreign=sources, how="by {KEY}")
'''


async def test_no_part_of_a_result_has_a_secret_of_the_settings(tmp_path: Path, models: ModelServer) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "own.py").write_text(OWN_TOOL)

    def answer(request: Request) -> Turn:
        return Call("look", {}) if request.model == "big" and not request.results else Say("Done.")

    models.respond(answer)
    async with person(tmp_path, models) as ann:
        await ann.asks("please look")
        await ann.presses("Again")
        await ann.sees(lambda replies: len(replies) == 2 and replies[-1]["done"])
        shown = json.dumps(await ann.replies())
    told = [message.text for request in models.requests for message in request.messages]
    assert any("look again with" in text for text in told)
    assert any("https://a.example/?key=" in text for text in told)
    assert KEY not in "".join((shown, *told))

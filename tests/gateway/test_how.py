"""`/how` through the front door: what it says of an answer, and what it leaves out."""

from __future__ import annotations

from pathlib import Path

from tests.gateway.test_from_settings import person
from tests.servers.models import Call, ModelServer, Request, Say, Turn

OWN_TOOLS = '''
from interject import ToolContext, ToolResult, tool


@tool(effect="read")
async def look(context: ToolContext, at: str) -> str:
    """Looks."""
    return "seen"


@tool(effect="read")
async def note(context: ToolContext, what: str) -> ToolResult:
    """Notes it for itself."""
    return ToolResult("noted", silent=True, how="in secret")
'''


async def test_a_call_that_people_are_not_shown_is_not_in_how(tmp_path: Path, models: ModelServer) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "own.py").write_text(OWN_TOOLS)

    def answer(request: Request) -> Turn:
        called = [Call("look", {"at": "the yard"}), Call("note", {"what": "he is late"})]
        return Say("Done.") if request.model == "small" or request.results else called

    models.respond(answer)
    async with person(tmp_path, models) as ann:
        await ann.asks("look")
        how = await ann.asks("/how")
    assert "look: the yard" in how
    for hidden in ("note", "he is late", "in secret"):
        assert hidden not in how

"""What hooks at on_event see of a turn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.agent import Agent
from agent.events import Event
from agent.hook import HookContext
from agent.hooks.chain import HookChain, RegisteredHook
from agent.hooks.python import PythonHook
from agent.log import Call, MessagesRead, Resumed, UserMessage
from agent.loop.memory_journal import MemoryJournal
from agent.loop.turn import Turn
from agent.models.scripted import ScriptedModel
from agent.testing import MemoryMedia

HELLO = MessagesRead(1, (UserMessage(1, "Ann", "the key is hush"),))


async def observed(folder: Path, *entries: Any, model: ScriptedModel) -> list[Mapping[str, Any]]:
    """The events that an observer of the turn sees, in their order."""
    seen: list[Mapping[str, Any]] = []

    async def see(context: HookContext, event: Any) -> None:
        seen.append(event)

    async def emit(event: Event) -> None:
        """Nobody else watches."""

    async with HookChain([RegisteredHook("watch", PythonHook({"on_event": see}), ("on_event",))]) as hooks:
        agent = Agent(model, MemoryMedia(), folder, hooks=hooks, mask=lambda text: text.replace("hush", "***"))
        await Turn(agent, MemoryJournal(), emit, id="t" * 12, entries=entries).run()
    return seen


async def test_an_observer_sees_the_beginning_of_a_turn_its_message_and_the_size_of_each_request(
    tmp_path: Path,
) -> None:
    seen = await observed(tmp_path, HELLO, model=ScriptedModel([Call("c1", "nothing", "{}")], "Done."))
    kinds = [(event["event"], event.get("entry", {}).get("kind")) for event in seen]
    assert kinds[:3] == [("TurnStarted", None), ("Logged", "messages_read"), ("ModelRequested", None)]
    assert seen[0]["resumed"] is False
    assert seen[1]["entry"]["messages"][0]["text"] == "the key is ***"
    first, second = (event for event in seen if event["event"] == "ModelRequested")
    assert (first["step"], first["messages"], first["tools"]) == (1, 1, 0)
    assert (second["step"], second["messages"]) == (2, 3)
    assert second["tokens"] > first["tokens"] > 0


async def test_an_observer_is_not_told_again_what_a_resumed_turn_has_read(tmp_path: Path) -> None:
    seen = await observed(tmp_path, HELLO, Resumed(), model=ScriptedModel("Done."))
    assert seen[0] == {"event": "TurnStarted", "resumed": True}
    assert seen[1]["event"] == "ModelRequested"

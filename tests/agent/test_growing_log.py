"""What is kept while a turn's log grows is what its pure functions would make of the whole log."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.log import Call, CallEnded, CallStarted, Compacted, Entry, MessagesRead, ModelAnswered, UserMessage
from agent.loop.attachments import ConversationFiles
from agent.testing import MemoryMedia
from agent.tools.received_files import copy_to_workspace, workspace_path
from agent.transcript import Conversation, RenderedTurn, conversation, transcript
from tests.agent.logs import logs, pasts


@settings(max_examples=60, derandomize=True, deadline=None)
@given(pasts, logs, st.data())
def test_a_conversation_asked_as_the_log_grows_is_the_one_of_the_whole_log(
    past: tuple[RenderedTurn, ...], log: tuple[Entry, ...], data: st.DataObject
) -> None:
    for _ in range(data.draw(st.integers(0, 2))):
        place = data.draw(st.integers(0, len(log)))
        step = data.draw(st.integers(1, 1 + sum(isinstance(entry, ModelAnswered) for entry in log[:place])))
        through = data.draw(st.sampled_from(["", *(turn.id for turn in past)]))
        log = (*log[:place], Compacted(step, through, "Things."), *log[place:])
    growing = Conversation(past)
    for length in sorted(data.draw(st.sets(st.integers(0, len(log))))):
        assert growing.up_to(log[:length]) == conversation(past, log[:length])


async def test_files_are_gathered_once_from_the_past_and_from_a_growing_log() -> None:
    media = MemoryMedia()
    old, sent, made, long = [await media.put(name.encode(), name) for name in ("old.txt", "sent", "made", "long")]
    past = (RenderedTurn("one", tuple(transcript([MessagesRead(1, (UserMessage(1, "Ann", "look", (old,)),))]))),)
    log: list[Entry] = [MessagesRead(1, (UserMessage(2, "Ann", "and at this", (sent,)),))]
    files = ConversationFiles(past)
    files.update(log)
    assert (files.attachments, files.workspace_files) == ([old, sent], [old, sent])
    log += [
        ModelAnswered(1, (Call("c", "draw", "{}"),)),
        CallStarted("c"),
        CallEnded("c", "done", "", (made,), full=long),
    ]
    files.update(log)
    files.update(log)
    assert (files.attachments, files.workspace_files) == ([old, sent, made], [old, sent, long])


async def test_a_file_whose_name_is_too_long_for_the_disk_keeps_no_other_from_the_workspace(tmp_path: Path) -> None:
    media = MemoryMedia()
    unbearable, usual = await media.put(b"one", "å" * 100), await media.put(b"two", "two.txt")
    await copy_to_workspace([unbearable, usual], tmp_path, media)
    assert (tmp_path / workspace_path(usual)).read_bytes() == b"two"

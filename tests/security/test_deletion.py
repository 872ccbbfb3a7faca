"""Deleted data is gone: from the database file and its journal, the files, the folder, and the agent's memory."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agent.agent import Agent
from agent.context.compaction import Compactor
from agent.decisions.questions import ask_user
from agent.log import Call, Compacted, Entry, MessagesRead, Usage
from agent.model import Request
from agent.models.scripted import Script, ScriptedModel
from agent.testing import MemoryMedia
from agent.tools import load_tools
from agent.transcript import RenderedTurn, Results, last_compaction
from channels.address import Address, Sender
from channels.memory import plain_text
from channels.message import ForeignText
from gateway.inbound.access import ChannelAccess
from gateway.turns.workspaces import Workspaces
from tests.gateway.play import ANN, PLACE, FirstNames, Play, inbound, playing, until

BOB = Sender("8", "Bob")
GROUP = replace(PLACE, chat="team", kind="group")
POLICIES = {"memory": ChannelAccess(frozenset({"7", "8"}), groups="all", admins=frozenset({"8"}))}
SECRET = "the combination is 4711-swordfish"


def traces(play: Play, words: str) -> list[str]:
    """The database files that hold the words."""
    files = play.database.parent.glob(play.database.name + "*")
    return [file.name for file in files if words.encode() in file.read_bytes()]


def playing_with(folder: Path, *answers: object, **more: object) -> AbstractAsyncContextManager[Play]:
    return playing(folder, ScriptedModel(*answers), policies=POLICIES, **more)  # type: ignore[arg-type]


async def test_forget_leaves_no_byte_of_the_conversation(tmp_path: Path) -> None:
    model = ScriptedModel("I will keep 4711-swordfish.", "What combination?")
    async with playing(tmp_path, model, policies=POLICIES) as play:
        await play.say(SECRET)
        await play.reply("I will keep")
        await play.until_idle()
        assert traces(play, "swordfish")
        await play.say("/forget")
        await play.reply("Confirm with `/forget yes`")
        assert traces(play, "swordfish")
        await play.say("/forget yes")
        await play.reply("Deleted: 1 conversation")
        await play.until_idle()
        assert traces(play, "swordfish") == []
        await play.say("what was it?")
        await play.reply("What combination?")
        heard = [each for each in model.requests[-1].transcript if isinstance(each, MessagesRead)]
        assert [message.text for read in heard for message in read.messages] == ["what was it?"]


async def test_forget_in_a_group_removes_one_persons_words_and_says_what_stays(tmp_path: Path) -> None:
    async with playing_with(tmp_path, "Noted, Ann.", "Noted, Bob.", "Ann said something.") as play:
        await play.deliver(inbound(SECRET, address=GROUP))
        await play.reply("Noted, Ann.")
        await play.until_idle()
        await play.deliver(inbound("lunch is at noon", address=GROUP, by=BOB))
        await play.reply("Noted, Bob.")
        await play.until_idle()
        await play.deliver(inbound("/undo", address=GROUP, by=BOB))
        await play.reply("Removed from context: “lunch")
        await play.deliver(inbound("/undo", address=GROUP, by=BOB))
        await play.reply("Removed from context: “the combination is 4711")
        await play.deliver(inbound("/forget yes", address=GROUP))
        answer = await play.reply("Deleted:")
        await play.until_idle()
        assert traces(play, "swordfish") == []
        assert traces(play, "combination") == []
        assert traces(play, "Noted, Ann.") == []
        assert traces(play, "lunch is at noon")
        assert traces(play, "Noted, Bob.")
        assert "stay there: delete them in the app" in plain_text(answer)


async def test_forget_in_a_group_removes_words_that_stand_among_those_of_strangers(tmp_path: Path) -> None:
    """What was said before a message is text from outside as a whole if a stranger wrote a part of it."""
    said = ForeignText("earlier messages here, of Eve and others", f"- Ann: {SECRET}\n- Eve: hi")
    page = ForeignText("https://example.org", "a page")
    async with playing_with(tmp_path, "Noted.", "Lunch.") as play:
        await play.deliver(inbound("hello", address=GROUP))
        await play.reply("Noted.")
        await play.until_idle()
        await play.deliver(replace(inbound("what now?", address=GROUP, by=BOB), foreign=(said, page)))
        await play.reply("Lunch.")
        await play.until_idle()
        await play.deliver(inbound("/forget yes", address=GROUP))
        await play.reply("Deleted:")
        await play.until_idle()
        assert traces(play, "swordfish") == []
        assert traces(play, "what now?")
        assert traces(play, "https://example.org")


class Repeating(Compactor):
    """A context manager that puts what was said into the note with which it shortens a conversation."""

    def __init__(self, *, left_out: bool) -> None:
        super().__init__(100_000, ScriptedModel())
        self._left_out = left_out

    async def compact(
        self, past: Sequence[RenderedTurn], entries: Sequence[Entry], **_: object
    ) -> tuple[Compacted, ...]:
        read = [each for turn in past for each in turn.exchanges if isinstance(each, MessagesRead)]
        if not read or last_compaction(entries):
            return ()
        said = ", ".join(message.text for each in read for message in each.messages)
        return (Compacted(1, past[-1].id, f"People said: {said}", left_out=self._left_out),)


@pytest.mark.parametrize("left_out", [False, True])
async def test_forget_in_a_group_removes_words_from_what_stands_for_earlier_turns(
    tmp_path: Path, left_out: bool
) -> None:
    model = ScriptedModel("Noted, Ann.", "Noted, Bob.", "What combination?")
    agent = Agent(model, MemoryMedia(), tmp_path, compactor=Repeating(left_out=left_out))
    async with playing(tmp_path, model, policies=POLICIES, agent=lambda _: agent) as play:
        await play.deliver(inbound(SECRET, address=GROUP))
        await play.reply("Noted, Ann.")
        await play.until_idle()
        await play.deliver(inbound("lunch is at noon", address=GROUP, by=BOB))
        await play.reply("Noted, Bob.")
        await play.until_idle()
        assert f"People said: {SECRET}" in str(model.requests[-1].transcript)
        await play.deliver(inbound("/forget yes", address=GROUP))
        await play.reply("Deleted:")
        await play.until_idle()
        assert traces(play, "swordfish") == []
        await play.deliver(inbound("what was it?", address=GROUP, by=BOB))
        await play.reply("What combination?")
        assert "swordfish" not in str(model.requests[-1].transcript)


async def test_a_running_turn_is_stopped_first(tmp_path: Path) -> None:
    asks = [Call("", "ask_user", json.dumps({"question": f"About {SECRET}?", "options": []}))]
    async with playing(tmp_path, ScriptedModel(asks, "Never."), ask_user, policies=POLICIES) as play:
        await play.say(SECRET)
        await play.asked(f"About {SECRET}?")
        await play.say("/forget yes")
        await play.reply("Deleted:")
        await play.until_idle()
        assert traces(play, "swordfish") == []
        assert play.sql("SELECT count(*) FROM turns WHERE state = 'running'") == [(0,)]
        assert not any("Never." in text for text in play.shown())


async def test_an_admin_deletes_a_person_everywhere_and_others_cannot(tmp_path: Path) -> None:
    async with playing_with(tmp_path, "One.", "Two.") as play:
        await play.say(SECRET)
        await play.reply("One.")
        await play.deliver(inbound(f"{SECRET} again", address=GROUP))
        await play.reply("Two.")
        await play.until_idle()
        await play.say("/forget 8 yes")
        await play.reply("Only admins may delete")
        admin = replace(PLACE, chat="admins")
        await play.deliver(inbound("/forget 7 yes", address=admin, by=BOB))
        await play.reply("Deleted: 1 conversation")
        await play.until_idle()
        assert traces(play, "swordfish") == []
        assert play.sql("SELECT count(*) FROM inbox WHERE sender_id = '7'") == [(0,)]
        [(actor, detail)] = play.sql("SELECT actor, detail FROM audit WHERE event = 'deleted'")
        assert (actor, json.loads(detail)["person"]) == ("memory:8", "memory:7")


async def test_an_interrupted_deletion_is_finished_by_the_next_start(tmp_path: Path) -> None:
    async with playing_with(tmp_path, "One.") as play:
        await play.say(SECRET)
        await play.reply("One.")
        await play.until_idle()
        play.sql(
            'INSERT INTO deletions (scope, session, person, "by", state, folders, requested_at) '
            "SELECT 'conversation', key, '', 'operator', 'requested', '[]', 0 FROM sessions"
        )
        await until(lambda: play.sql("SELECT state FROM deletions") == [("done",)])
        assert traces(play, "swordfish") == []
        assert play.sql("SELECT count(*) FROM sessions") == [(0,)]


async def test_the_costs_of_a_deleted_conversation_still_count_for_today(tmp_path: Path) -> None:
    async with playing_with(tmp_path, "One.") as play:
        await play.say("hi")
        await play.reply("One.")
        await play.until_idle()
        [(turn,)] = play.sql("SELECT id FROM turns WHERE kind = 'turn'")
        await play.store.add_spent(turn, Usage(7, 2, cost=0.1), "model", "title")
        before = await play.store.spent(person="memory:7")
        await play.say("/forget yes")
        await play.reply("Deleted:")
        assert await play.store.spent(person="memory:7") == before
        assert before.calls == 1
        play.sql("UPDATE usage SET at = at - 2 * 86400")
        await play.say("/forget yes")
        await until(lambda: sum("Deleted:" in text for text in play.shown()) == 2)
        assert (await play.store.spent(person="memory:7")).calls == 0
        assert (await play.store.spent()).calls == 1


@pytest.mark.parametrize("place", [PLACE, GROUP])
async def test_delegated_tasks_that_run_are_stopped_and_deleted_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, place: Address
) -> None:
    gate = asyncio.Event()
    task = Call("", "delegate", json.dumps({"task": "guess the swordfish", "background": True}))

    def script(request: Request) -> Script:
        messages = [each for each in request.transcript if isinstance(each, MessagesRead)]
        if any("guess" in message.text for read in messages for message in read.messages):
            return ["The swordfish is ", gate, "guessed."]
        return [task] if not any(isinstance(each, Results) for each in request.transcript) else "It runs."

    model = ScriptedModel(*[script] * 4)
    async with playing(tmp_path, model, *load_tools(["delegate"]), policies=POLICIES) as play:
        await play.deliver(inbound("go", address=place))
        await play.reply("It runs.")
        await until(lambda: len(model.requests) == 3)
        assert traces(play, "swordfish")
        await play.deliver(inbound("/forget yes", address=place))
        await play.reply("Deleted:")
        await play.until_idle()
        assert traces(play, "swordfish") == []
        assert play.sql("SELECT count(*) FROM work") == [(0,)]
        assert play.sql("SELECT count(*) FROM sessions WHERE parent IS NOT NULL") == [(0,)]
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


# Folders and failures that block others


def nest(folder: Path, depth: int) -> None:
    """Makes so many folders in one another; their path is longer than the system allows."""
    folder.mkdir(parents=True)
    at = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=at)
        inner = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)


def left_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


@contextmanager
def without_root() -> Iterator[None]:
    """Root may delete in folders without permissions: another user may not."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


async def test_deeply_nested_folders_are_deleted(tmp_path: Path) -> None:
    workspaces = Workspaces(tmp_path / "workspace", "conversation", FirstNames())
    async with playing_with(tmp_path, "One.", workspaces=workspaces) as play:
        await play.say(SECRET)
        await play.reply("One.")
        await play.until_idle()
        nest(await workspaces.folder("memory/me/chat"), 3000)
        try:
            await play.say("/forget yes")
            await play.reply("Deleted: 1 conversation")
            await until(lambda: play.sql("SELECT state FROM deletions") == [("done",)])
            assert left_in(tmp_path / "workspace") == []
        finally:
            # pytest cannot delete it.
            await (await asyncio.create_subprocess_exec("rm", "-rf", str(tmp_path / "workspace"))).wait()


async def test_folders_without_permissions_and_leftovers_of_a_crash_are_deleted() -> None:
    with without_root(), tempfile.TemporaryDirectory() as place:
        workspaces = Workspaces(Path(place), "conversation", FirstNames())
        folder = await workspaces.folder("memory/me/chat")
        for mode in (0o000, 0o500):
            inner = folder / f"{mode}" / "b"
            inner.mkdir(parents=True)
            (inner / "x").touch()
            inner.chmod(mode)
            inner.parent.chmod(mode)
        folder.chmod(0o500)
        assert await workspaces.remove(PLACE)
        assert not await workspaces.remove(PLACE)
        (Path(place) / ".deleted-x" / "a").mkdir(parents=True)
        await workspaces.remove_leftovers()
        assert left_in(Path(place)) == []


async def test_what_an_earlier_attempt_left_is_deleted_with_the_folder(tmp_path: Path) -> None:
    workspaces = Workspaces(tmp_path, "conversation", FirstNames())
    folder = await workspaces.folder("memory/me/chat")
    folder.with_name(f".deleted-{folder.name}-1").mkdir()
    assert await workspaces.remove(PLACE)
    assert left_in(tmp_path) == []


async def test_links_are_deleted_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir(mode=0o500)
    workspaces = Workspaces(tmp_path / "workspace", "conversation", FirstNames())
    folder = await workspaces.folder("memory/me/chat")
    folder.mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path / "other")
    assert await workspaces.remove(PLACE)
    folder.symlink_to(tmp_path / "other")
    assert await workspaces.remove(PLACE)
    assert left_in(tmp_path / "workspace") == []
    assert (tmp_path / "other").stat().st_mode & 0o777 == 0o500


async def test_a_deletion_that_fails_delays_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with playing_with(tmp_path, "One.", "Two.") as play:
        await play.say(SECRET)
        await play.reply("One.")
        await play.deliver(inbound("hello", address=GROUP))
        await play.reply("Two.")
        await play.until_idle()
        play.sql(
            "CREATE TRIGGER refused BEFORE DELETE ON sessions WHEN OLD.key = 'memory/me/chat' "
            "BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
        play.sql(
            'INSERT INTO deletions (scope, session, person, "by", state, folders, requested_at) '
            "SELECT 'conversation', key, '', 'operator', 'requested', '[]', 0 FROM sessions "
            "ORDER BY key != 'memory/me/chat'"
        )
        await until(lambda: play.sql("SELECT state FROM deletions ORDER BY id") == [("requested",), ("done",)])
        for _ in range(20):
            await play.gateway.deletion.catch_up()
    assert len([record for record in caplog.records if "tried again" in record.message]) == 1


async def test_a_message_that_comes_again_after_forget_is_not_read_as_new(tmp_path: Path) -> None:
    """Platforms deliver an event again when their connection was lost."""
    model = ScriptedModel("I see.", "Hello.")
    async with playing(tmp_path, model, policies=POLICIES) as play:
        again = inbound(SECRET, event="event-of-the-secret")
        await play.deliver(again)
        await play.reply("I see.")
        await play.until_idle()
        await play.say("/forget yes")
        await play.reply("Deleted: 1 conversation")
        await play.until_idle()
        await play.deliver(again)
        await play.say("hello")
        await play.reply("Hello.")
        await play.until_idle()
        assert await play.messages_read() == [["hello"]]
        assert traces(play, "swordfish") == []
        assert traces(play, "event-of-the-secret") == []


async def test_the_folder_of_a_person_goes_with_the_person(tmp_path: Path) -> None:
    workspaces = Workspaces(tmp_path / "workspace", "person", FirstNames())
    async with playing_with(tmp_path, "One.", "Two.", workspaces=workspaces) as play:
        folders = [await workspaces.folder("memory/me/chat", person) for person in (ANN, BOB)]
        for folder in folders:
            folder.mkdir(parents=True)
            (folder / "notes.txt").write_text(SECRET)
        await play.say(SECRET)
        await play.reply("One.")
        await play.until_idle()
        await play.say("/forget 7 yes", by=BOB, address=replace(PLACE, chat="bob"))
        await until(lambda: play.sql("SELECT state FROM deletions") == [("done",)])
        assert [folder.exists() for folder in folders] == [False, True]

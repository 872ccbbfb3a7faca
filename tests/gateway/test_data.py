"""People's data: exported, listed, deleted at its age, backed up and restored; beside a running gateway or without."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest
from PIL import Image

from agent.log import MessagesRead
from agent.models.scripted import ScriptedModel
from agent.schedules import Timing
from channels.address import Address, Sender
from channels.memory import MemoryChannel
from channels.message import FileRef
from channels.reply import MediaSegment
from gateway.cli.main import main
from gateway.inbound.access import ChannelAccess
from gateway.lifecycle.retention import Retention, delete_old
from gateway.media import FolderBlobs, Media
from gateway.sessions import session_key
from gateway.store import open_store
from gateway.store.records import DeletionRequest
from tests.engines import engines
from tests.gateway.notes import conversations_of
from tests.gateway.play import ANN, ELSEWHERE, PLACE, Play, inbound, playing, until

BOB = Sender("8", "Bob")
GROUP = replace(PLACE, chat="team", kind="group")
POLICIES = {"memory": ChannelAccess(frozenset({"7", "8"}), groups="all", admins=frozenset({"8"}))}
DAY = timedelta(days=1)


def picture(colour: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (30, 20), (colour % 256, colour // 256, 7)).save(file, "PNG")
    return file.getvalue()


def settings_for(folder: Path) -> tuple[str, ...]:
    """The options of a command that make it use the gateway's database and files."""
    file = folder / "interject.toml"
    file.write_text(f'[store]\nurl = "{engines.url(folder / "test.db")}"\n[media]\npath = "{folder / "media"}"\n')
    return ("--config", str(file))


async def call(*arguments: str) -> int:
    return await asyncio.to_thread(main, arguments)


def stored_files(folder: Path) -> list[Path]:
    return [path for path in (folder / "media").rglob("*") if path.is_file()]


def make_older(play: Play, age: timedelta) -> None:
    seconds = age.total_seconds()
    play.sql("UPDATE inbox SET sent_at = sent_at - ?, received_at = received_at - ?", seconds, seconds)
    play.sql("UPDATE turns SET started_at = started_at - ?, ended_at = ended_at - ?", seconds, seconds)
    play.sql("UPDATE sessions SET created_at = created_at - ?, last_at = last_at - ?", seconds, seconds)
    play.sql("UPDATE media SET created_at = created_at - ?", seconds)
    play.sql("UPDATE audit SET at = at - ?", seconds)


async def export_of(play: Play, folder: Path) -> ZipFile:
    """The file that the bot has sent."""

    def sent(channel: MemoryChannel) -> MediaSegment | None:
        segments = (segment for reply in channel.replies.values() if reply.done for segment in reply.segments)
        return next((each for each in segments if isinstance(each, MediaSegment)), None)

    segment = await play.channel.until(sent)
    assert segment is not None
    data = await Media(FolderBlobs(folder / "media"), play.store).read(segment.attachment)
    return ZipFile(BytesIO(data))


def lines_of(archive: ZipFile) -> list[dict[str, object]]:
    names = [name for name in archive.namelist() if name.endswith("messages.jsonl")]
    return [json.loads(line) for name in names for line in archive.read(name).decode().splitlines()]


# /export


async def test_export_sends_the_conversation_with_its_files(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel("A fine cat."), policies=POLICIES, on_disk=True) as play:
        play.channel.files["cat"] = picture(1)
        await play.deliver(inbound("my cat", files=(FileRef("cat", "cat.png"),)))
        await play.reply("A fine cat.")
        await play.until_idle()
        await play.say("/export")
        archive = await export_of(play, tmp_path)
        message, turn, *_ = lines_of(archive)
        assert (message["text"], message["sender"]) == ("my cat", {"id": "7", "name": "Ann"})
        assert "A fine cat." in json.dumps(turn["entries"])
        [text] = [archive.read(name).decode() for name in archive.namelist() if name.endswith(".md")]
        assert "my cat" in text
        assert "A fine cat." in text
        [file] = [name for name in archive.namelist() if name.endswith("cat.png")]
        assert archive.read(file) == picture(1)


async def test_export_in_a_group_has_only_the_persons_own_messages(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel("One.", "Two."), policies=POLICIES, on_disk=True) as play:
        await play.deliver(inbound("from Ann", address=GROUP))
        await play.reply("One.")
        await play.deliver(inbound("from Bob", address=GROUP, by=BOB))
        await play.reply("Two.")
        await play.until_idle()
        await play.deliver(inbound("/export", address=GROUP))
        archive = await export_of(play, tmp_path)
        whole = "".join(archive.read(name).decode() for name in archive.namelist())
        assert "from Ann" in whole
        assert "One." in whole
        assert "from Bob" not in whole
        assert "Two." not in whole


# Scheduled tasks and notes


async def remember(play: Play, address: Address, person: Sender, what: str) -> None:
    """A scheduled task and a note of the person's there."""
    gateway, session, later = play.gateway, session_key(address), datetime.now(UTC) + DAY
    await gateway.schedules.add(session, address, person, f"task {what}", f"{what} to do", later, Timing())
    await gateway.memories.add(address, session, person, f"note {what}", f"{what} to know")


def remembered(play: Play) -> set[str]:
    return {text for (text,) in (*play.sql("SELECT task FROM schedules"), *play.sql("SELECT text FROM notes"))}


ANNS, BOBS, OTHERS = ({f"{each} to do", f"{each} to know"} for each in ("tea", "beer", "milk"))


@asynccontextmanager
async def remembering(folder: Path) -> AsyncIterator[Play]:
    """Ann and Bob have a scheduled task and a note each in a group, and Ann in a chat of her own."""
    async with playing(folder, ScriptedModel("One.", "Two.", "Three."), policies=POLICIES, on_disk=True) as play:
        for said, address, person in (("One.", GROUP, ANN), ("Two.", GROUP, BOB), ("Three.", ELSEWHERE, ANN)):
            await play.deliver(inbound("hi", address=address, by=person))
            await play.reply(said)
        await play.until_idle()
        await remember(play, GROUP, ANN, "tea")
        await remember(play, GROUP, BOB, "beer")
        await remember(play, ELSEWHERE, ANN, "milk")
        yield play


async def test_in_a_group_a_persons_export_has_their_own_tasks_and_notes(tmp_path: Path) -> None:
    async with remembering(tmp_path) as play:
        await play.deliver(inbound("/export", address=GROUP))
        archive = await export_of(play, tmp_path)
    whole = "".join(archive.read(name).decode() for name in archive.namelist())
    assert {text for text in ANNS | BOBS | OTHERS if text in whole} == ANNS


async def test_who_is_forgotten_in_a_group_loses_their_own_tasks_and_notes_there(tmp_path: Path) -> None:
    async with remembering(tmp_path) as play:
        await play.deliver(inbound("/forget yes", address=GROUP))
        await play.reply("Deleted:")
        assert remembered(play) == BOBS | OTHERS


async def test_tasks_and_notes_are_deleted_with_their_conversation_and_no_others(tmp_path: Path) -> None:
    async with remembering(tmp_path) as play:
        await play.gateway.deletion.delete(DeletionRequest("conversation", session_key(GROUP)))
        assert remembered(play) == OTHERS


async def test_tasks_and_notes_are_deleted_with_their_person_also_where_nobody_has_written(tmp_path: Path) -> None:
    async with remembering(tmp_path) as play:
        await remember(play, replace(ELSEWHERE, chat="new"), ANN, "water")
        await play.gateway.deletion.delete(DeletionRequest("person", person="memory:7"))
        assert remembered(play) == BOBS


async def test_a_conversation_with_scheduled_tasks_is_not_deleted_for_its_age(tmp_path: Path) -> None:
    async with remembering(tmp_path) as play:
        make_older(play, 100 * DAY)
        await delete_old(play.gateway.deletion, Retention(90 * DAY))
        assert remembered(play) == ANNS | BOBS | OTHERS
        assert len(play.sql("SELECT key FROM sessions")) == 2
        for schedule in await play.store.every_schedule():
            await play.store.cancel_schedule(schedule.session, schedule.id)
        play.sql("UPDATE notes SET at = at - ?", (100 * DAY).total_seconds())
        await delete_old(play.gateway.deletion, Retention(90 * DAY))
        assert remembered(play) == set()


# Deletion of files


async def test_files_are_deleted_with_their_conversation_unless_another_uses_them(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel("One.", "Two."), policies=POLICIES, on_disk=True) as play:
        play.channel.files |= {"own": picture(1), "both": picture(2)}
        own, both = FileRef("own", "own.png"), FileRef("both", "both.png")
        await play.deliver(inbound("here", files=(own, both)))
        await play.reply("One.")
        await play.deliver(inbound("there", address=ELSEWHERE, files=(both,)))
        await play.reply("Two.")
        await play.until_idle()
        assert len(stored_files(tmp_path)) == 2
        await play.say("/forget yes")
        await play.reply("Deleted:")
        [left] = stored_files(tmp_path)
        assert left.read_bytes() == picture(2)


# Retention


async def test_conversations_are_deleted_at_their_age_and_old_parts_of_newer_ones(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(*["Yes."] * 3), policies=POLICIES, on_disk=True) as play:
        play.channel.files["cat"] = picture(1)
        await play.deliver(inbound("old words", files=(FileRef("cat", "cat.png"),)))
        await until(lambda: play.shown() == ["Yes."])
        await play.deliver(inbound("other old words", address=ELSEWHERE))
        await until(lambda: play.shown() == ["Yes."] * 2)
        await play.until_idle()
        make_older(play, 100 * DAY)
        await play.say("new words")
        await until(lambda: play.shown() == ["Yes."] * 3)
        await play.until_idle()
        await delete_old(play.gateway.deletion, Retention(200 * DAY))
        assert len(play.sql("SELECT id FROM inbox")) == 3
        await delete_old(play.gateway.deletion, Retention(90 * DAY, channels={"memory": 300 * DAY}))
        assert len(play.sql("SELECT id FROM inbox")) == 3
        await delete_old(play.gateway.deletion, Retention(90 * DAY))
        assert play.sql("SELECT text FROM inbox") == [("new words",)]
        assert len(play.sql("SELECT id FROM turns")) == 1
        assert len(play.sql("SELECT key FROM sessions")) == 1
        assert stored_files(tmp_path) == []


async def test_media_and_the_audit_log_have_ages_of_their_own(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel("Yes.", "Yes?"), policies=POLICIES, on_disk=True) as play:
        play.channel.files["cat"] = picture(1)
        await play.deliver(inbound("look", files=(FileRef("cat", "cat.png"),)))
        await play.reply("Yes.")
        await play.deliver(inbound("let me in", by=Sender("9", "Eve"), address=ELSEWHERE))
        await play.until_idle()
        assert len(play.sql("SELECT id FROM audit")) == 1
        make_older(play, 10 * DAY)
        await delete_old(play.gateway.deletion, Retention(media=20 * DAY, logs=20 * DAY))
        assert len(stored_files(tmp_path)) == 1
        await delete_old(play.gateway.deletion, Retention(media=5 * DAY, logs=5 * DAY))
        assert stored_files(tmp_path) == []
        assert play.sql("SELECT id FROM audit") == []
        await play.say("and now?")
        await play.reply("Yes?")


# interject data


async def test_data_is_listed_exported_and_deleted_beside_a_running_gateway(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = settings_for(tmp_path)
    async with playing(tmp_path, ScriptedModel("One.", "Two."), policies=POLICIES, on_disk=True) as play:
        await play.say("the secret is swordfish")
        await play.reply("One.")
        await play.until_idle()
        assert await call("data", "list", "--json", *options) == 0
        listed = json.loads(capsys.readouterr().out)
        assert listed["people"] == ["memory:7"]
        target = tmp_path / "ann.zip"
        assert await call("data", "export", str(target), "--person", "memory:7", *options) == 0
        assert lines_of(ZipFile(target))[0]["text"] == "the secret is swordfish"
        assert target.stat().st_mode & 0o77 == 0
        assert await call("data", "delete", "--conversation", listed["conversation"], *options) == 1
        assert "add --yes" in capsys.readouterr().err
        assert await call("data", "delete", "--conversation", listed["conversation"], "--yes", *options) == 0
        assert "Deleted: 1 conversation" in capsys.readouterr().out
        assert play.sql("SELECT count(*) FROM inbox") == [(0,)]
        await play.say("what did I say?")
        await play.reply("Two.")
        assert await play.messages_read() == [["what did I say?"]]
    assert await call("data", "delete", "--person", "memory:7", "--yes", *options) == 0
    assert await call("data", "list", *options) == 0
    assert "No conversations." in capsys.readouterr().out


# Backups


async def test_a_backup_under_load_is_restored_with_every_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, target = settings_for(tmp_path), tmp_path / "backup.zip"
    answers = [f"Seen {number}." for number in range(60)]
    async with playing(tmp_path, ScriptedModel(*answers), policies=POLICIES, on_disk=True) as play:

        async def send(number: int) -> None:
            play.channel.files[f"p{number}"] = picture(number)
            place = replace(PLACE, chat=f"chat{number % 10}")
            await play.deliver(
                inbound(f"look {number}", address=place, files=(FileRef(f"p{number}", f"{number}.png"),))
            )

        for number in range(20):
            await send(number)
        await play.until_idle()
        made = asyncio.create_task(call("backup", str(target), *options))
        for number in range(20, 60):
            await send(number)
        assert await made == 0
        await play.until_idle()
        assert await call("restore", str(target), *options) == 1
        assert "a gateway is running" in capsys.readouterr().err
    assert await call("restore", str(target), *options) == 1
    assert "--force" in capsys.readouterr().err
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert await call("restore", str(target), *settings_for(elsewhere)) == 0
    async with open_store(engines.url(elsewhere / "test.db")) as store:
        media = Media(FolderBlobs(elsewhere / "media"), store)
        seen = 0
        for conversation in await conversations_of(store, "memory"):
            for row in await store.rows(conversation.session):
                for attachment in row.attachments:
                    assert await media.read(attachment) in [picture(number) for number in range(60)]
                    seen += 1
            for turn in await store.turns_of(conversation.session):
                read = [entry for entry in turn.entries if isinstance(entry, MessagesRead)]
                for attachment in (file for each in read for message in each.messages for file in message.attachments):
                    await media.read(attachment)
        assert seen >= 20
        assert await store.write(lambda connection: connection.exec_driver_sql("PRAGMA foreign_key_check").all()) == []


async def test_a_damaged_backup_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options, target = settings_for(tmp_path), tmp_path / "backup.zip"
    async with playing(tmp_path, ScriptedModel("Yes."), policies=POLICIES, on_disk=True) as play:
        play.channel.files["cat"] = os.urandom(100_000)
        await play.deliver(inbound("look", files=(FileRef("cat", "cat.bin"),)))
        await play.reply("Yes.")
        await play.until_idle()
        assert await call("backup", str(target), *options) == 0
    before = (tmp_path / "test.db").read_bytes()
    whole = target.read_bytes()
    middle = len(whole) // 2
    for damaged in (whole[:middle], whole[:middle] + b"\xa5" * 64 + whole[middle + 64 :], b"no zip file"):
        target.write_bytes(damaged)
        assert await call("restore", str(target), "--force", *options) == 1
        assert "cannot be restored" in capsys.readouterr().err
        assert (tmp_path / "test.db").read_bytes() == before
        assert len(stored_files(tmp_path)) == 1
    target.write_bytes(whole)
    assert await call("restore", str(target), "--force", *options) == 0
    assert await call("backup", str(target), *options) == 1
    assert await call("backup", str(target), "--force", *options) == 0
    assert "1 conversations, 1 messages, 1 files." in capsys.readouterr().out


def settings_with_workspace(folder: Path) -> tuple[str, ...]:
    options = settings_for(folder)
    with (folder / "interject.toml").open("a") as file:
        file.write(f'[agent]\nworkspace = "{folder / "workspace"}"\n')
    return options


async def test_workspaces_are_in_backups_without_what_links_lead_to(tmp_path: Path) -> None:
    options, target = settings_with_workspace(tmp_path), tmp_path / "backup.zip"
    async with playing(tmp_path, ScriptedModel("Yes."), policies=POLICIES) as play:
        await play.say("hello")
        await play.reply("Yes.")
        await play.until_idle()
        workspace = tmp_path / "workspace" / "memory-chat-1"
        (workspace / "src").mkdir(parents=True)
        (workspace / "src" / "run.sh").write_text("echo hello")
        (workspace / "src" / "run.sh").chmod(0o755)
        (tmp_path / "secret").write_text("swordfish")
        (workspace / "link").symlink_to(tmp_path / "secret")
        (workspace / "folder").symlink_to(tmp_path)
        os.mkfifo(workspace / "pipe")
        (workspace / "gone.txt").write_text("deleted later")
        assert await call("backup", str(target), *options) == 0
    (workspace / "gone.txt").unlink()
    (workspace / "later.txt").write_text("not in the backup")
    (workspace / "src" / "run.sh").unlink()
    (workspace / "src" / "run.sh").symlink_to(tmp_path / "secret")
    assert await call("restore", str(target), "--force", *options) == 0
    found = sorted(str(file.relative_to(workspace)) for file in workspace.rglob("*") if file.is_file())
    assert found == ["gone.txt", "src/run.sh"]
    assert (workspace / "src" / "run.sh").read_text() == "echo hello"
    assert (workspace / "src" / "run.sh").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "secret").read_text() == "swordfish"
    assert [each.name for each in (tmp_path / "workspace").iterdir()] == ["memory-chat-1"]


async def test_a_backup_with_paths_that_lead_out_is_not_restored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, target = settings_with_workspace(tmp_path), tmp_path / "backup.zip"
    async with playing(tmp_path, ScriptedModel("Yes."), policies=POLICIES) as play:
        await play.say("hello")
        await play.reply("Yes.")
        await play.until_idle()
        assert await call("backup", str(target), *options) == 0
    with ZipFile(target, "a") as archive:
        archive.writestr("workspaces/a/../../../evil.txt", "evil")
    assert await call("restore", str(target), "--force", *options) == 1
    assert "cannot be restored" in capsys.readouterr().err
    assert not (tmp_path / "evil.txt").exists()

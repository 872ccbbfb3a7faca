"""People's files: they reach the model as it can take them, or with an honest word."""

from __future__ import annotations

import re

from tests.channels.contract.home import (
    Stage,
    Upload,
    lines,
)
from tests.channels.contract.rows import (
    over,
    png,
    read_by_model,
    without_frames,
)
from tests.servers.models import Say


@over("files")
async def test_the_model_is_shown_a_photo(stage: Stage) -> None:
    stage.models.script(Say("A blue one."))
    async with stage.conversation() as ann:
        await ann.send(Upload("photo.png", png(), "photo"), text="what is this?")
    [message] = [message for message in stage.models.requests[0].messages if message.role == "user"]
    assert message.images == (png(),)
    assert message.text.startswith("what is this?")
    assert lines(ann) == ["A blue one."]


@over("files")
async def test_the_text_of_a_document_reaches_the_model(stage: Stage) -> None:
    stage.models.script(Say("I see."))
    async with stage.conversation() as ann:
        await ann.send(Upload("plan.txt", b"First the roof, then the walls."), text="read this")
    [text] = read_by_model(stage.models.requests[0])
    note, rest = text.split("]\n", 1)
    assert note == "[Text of the file plan.txt:\nFirst the roof, then the walls."
    assert rest.startswith("read this\n\n[Attached file: plan.txt, text/plain, 31 bytes, in the workspace as received/")
    assert lines(ann) == ["I see."]


@over("files")
async def test_a_document_that_cannot_be_read_is_an_attached_file_all_the_same(stage: Stage) -> None:
    stage.models.script(Say("I see."))
    async with stage.conversation() as ann:
        await ann.send(Upload("plan.pdf", b"%PDF-1.4 nothing"), text="read this")
    [text] = read_by_model(stage.models.requests[0])
    assert text.startswith("[The file plan.pdf could not be read: it is damaged or incomplete.]\nread this\n\n")
    assert "[Attached file: plan.pdf, application/pdf, 16 bytes, in the workspace as received/" in text
    assert lines(ann) == ["I see."]


@over("files")
async def test_the_model_is_told_of_a_voice_note_that_nobody_can_listen_to(stage: Stage) -> None:
    stage.models.script(Say("I cannot hear."))
    async with stage.conversation() as ann:
        await ann.send(Upload("voice.ogg", b"OggS" + bytes(60), "voice"))
    [text] = read_by_model(stage.models.requests[0])
    assert re.fullmatch(
        r"\[The voice note \S+ cannot be transcribed: no transcription model is configured\.\]\n\n"
        r"\[Attached file: \S+, audio/ogg, 64 bytes, in the workspace as received/\S+\]",
        text,
    )
    assert lines(ann) == ["I cannot hear."]


@over("files")
async def test_a_voice_note_is_transcribed(stage: Stage) -> None:
    stage.agent = 'transcription_model = "openai:whisper-test"'
    stage.models.spoken = "Where is the tower?"
    stage.models.script(Say("In Paris."))
    async with stage.conversation() as ann:
        await ann.send(Upload("voice.ogg", b"OggS" + bytes(60), "voice"))
    [text] = read_by_model(stage.models.requests[0])
    assert re.match(r"\[Transcript of the voice note \S+: Where is the tower\?\]", text)
    assert stage.models.recordings == [b"OggS" + bytes(60)]
    assert lines(ann) == ["In Paris."]


@over("files")
async def test_an_empty_file_is_a_file(stage: Stage) -> None:
    stage.models.script(Say("It is empty."))
    async with stage.conversation() as ann:
        await ann.send(Upload("nothing.txt", b""), text="read this")
    [text] = read_by_model(stage.models.requests[0])
    assert text.startswith("[The file nothing.txt could not be read: it is empty.]\nread this")
    assert "[Attached file: nothing.txt, " in text
    assert "0 bytes" in text
    assert lines(ann) == ["It is empty."]


@over("album")
async def test_an_album_is_one_message(stage: Stage) -> None:
    stage.models.script(Say("Two colours."))
    async with stage.conversation() as ann:
        photos = Upload("a.png", png("#ff0000"), "photo"), Upload("b.png", png("#00ff00"), "photo")
        await ann.send(*photos, text="compare")
    [request] = stage.models.requests
    [message] = [message for message in request.messages if message.role == "user"]
    assert message.images == (png("#ff0000"), png("#00ff00"))
    assert message.text.count("compare") == 1
    assert lines(ann) == ["Two colours."]


@over("album")
async def test_several_files_are_one_message(stage: Stage) -> None:
    stage.models.script(Say("Two plans."))
    async with stage.conversation() as ann:
        await ann.send(Upload("a.txt", b"the roof"), Upload("b.txt", b"the walls"), text="compare")
    [request] = stage.models.requests
    [text] = read_by_model(request)
    assert text.count("compare") == 1
    assert text.index("Text of the file a.txt:\nthe roof") < text.index("Text of the file b.txt:\nthe walls")
    assert lines(ann) == ["Two plans."]


@over("files", "group")
async def test_a_photo_in_a_group_has_its_senders_name(stage: Stage) -> None:
    stage.models.script(Say("A blue one."))
    group = stage.home.group()
    async with stage.conversation(group):
        await group.send(Upload("photo.png", png(), "photo"), text=f"{stage.home.mention} what is this?")
        await group.until(lambda: lines(group) == ["A blue one."])
    [message] = [message for message in stage.models.requests[0].messages if message.role == "user"]
    assert message.images == (png(),)
    assert without_frames(message.text).startswith("Ann: what is this?")


@over("faults", "files")
async def test_an_unavailable_file_is_named_to_the_model_and_to_the_person(stage: Stage) -> None:
    stage.models.script(Say("I did not get it."))
    async with stage.conversation() as ann:
        stage.home.fail_next("file", 404)
        await ann.send(Upload("plan.txt", b"First the roof."), text="read this")
    [text] = read_by_model(stage.models.requests[0])
    assert "The file plan.txt is not available" in text
    assert text.endswith("read this")
    told, answer = sorted(lines(ann), key=lambda line: "⚠️" not in line)
    assert told.startswith("⚠️ The file plan.txt is not available")
    assert answer == "I did not get it."


@over("faults", "files")
async def test_a_temporarily_unavailable_file_is_fetched_again(stage: Stage) -> None:
    stage.models.script(Say("I see."))
    async with stage.conversation() as ann:
        stage.home.fail_next("file", 500)
        await ann.send(Upload("plan.txt", b"First the roof."), text="read this")
    [text] = read_by_model(stage.models.requests[0])
    assert text.startswith("[Text of the file plan.txt:\nFirst the roof.]\nread this")
    assert lines(ann) == ["I see."]

"""Voice notes through a transcription service on a real socket."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from agent.files.transcription import OpenAITranscriber, TranscriptionFailed, is_sound
from tests.servers.transcriptions import Drop, Fail, Hang, Raw, TranscriptionServer

NOTE = b"OggS\0\2" + bytes(200)
PATIENCE = 60
AT_ONCE = {"Retry-After": "0"}


@pytest.fixture
async def server() -> AsyncIterator[TranscriptionServer]:
    async with TranscriptionServer() as server:
        yield server


@pytest.fixture
async def ear(server: TranscriptionServer) -> AsyncIterator[OpenAITranscriber]:
    transcriber = OpenAITranscriber("whisper-1", server.key, server.url)
    yield transcriber
    await transcriber.aclose()


async def hear(ear: OpenAITranscriber, data: bytes = NOTE, name: str = "note.oga", kind: str = "audio/ogg") -> str:
    async with asyncio.timeout(PATIENCE):
        return await ear.transcribe(data, name, kind)


async def refusal(ear: OpenAITranscriber, data: bytes = NOTE) -> str:
    with pytest.raises(TranscriptionFailed) as caught:
        await hear(ear, data)
    assert str(caught.value) == caught.value.reason
    return caught.value.reason


async def test_a_voice_note_becomes_words(server: TranscriptionServer, ear: OpenAITranscriber) -> None:
    assert await hear(ear) == "Good morning."

    (recording,) = server.recordings
    assert (recording.model, recording.media_type, recording.data) == ("whisper-1", "audio/ogg", NOTE)
    assert recording.key == server.key


@pytest.mark.parametrize(
    ("name", "kind", "sent"),
    [
        ("voice.oga", "audio/ogg", "recording.ogg"),
        ("Grüße 🎤.OPUS", "audio/ogg; codecs=opus", "recording.ogg"),
        ("note", "audio/mp4", "recording.m4a"),
        ("a.b/c.mp3", "audio/mpeg", "recording.mp3"),
        ("memo.WAV", "audio/x-something", "recording.wav"),
    ],
)
async def test_the_service_is_told_the_format_by_a_name_it_knows(
    server: TranscriptionServer, ear: OpenAITranscriber, name: str, kind: str, sent: str
) -> None:
    await hear(ear, name=name, kind=kind)

    assert server.recordings[0].name == sent
    assert server.recordings[0].media_type == kind.partition(";")[0]


async def test_a_local_service_without_a_key_is_sent_none() -> None:
    async with TranscriptionServer(key=None) as server:
        ear = OpenAITranscriber("whisper-1", None, server.url + "/")
        assert await hear(ear) == "Good morning."
        await ear.aclose()

    assert server.recordings[0].key is None


@pytest.mark.parametrize(
    "fault",
    [
        Drop(),
        Fail(500, headers=AT_ONCE),
        Fail(503),
        Fail(429, headers=AT_ONCE),
        Fail(429, headers={"Retry-After": "soon"}),
    ],
)
async def test_a_passing_fault_is_tried_once_more(
    server: TranscriptionServer, ear: OpenAITranscriber, fault: Drop | Fail
) -> None:
    server.faults.append(fault)

    assert await hear(ear) == "Good morning."
    assert [recording.data for recording in server.recordings] == [NOTE, NOTE]


async def test_a_service_that_asks_to_wait_is_given_its_time(
    server: TranscriptionServer, ear: OpenAITranscriber
) -> None:
    server.faults.append(Fail(429, headers={"Retry-After": "2"}))

    await hear(ear)

    first, second = server.recordings
    assert second.at - first.at >= 1.9


async def test_a_time_of_day_to_wait_for_is_understood(server: TranscriptionServer, ear: OpenAITranscriber) -> None:
    past = format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)
    server.faults.append(Fail(503, headers={"Retry-After": past}))

    assert await hear(ear) == "Good morning."


async def test_a_service_that_asks_for_too_long_a_wait_is_given_up(
    server: TranscriptionServer, ear: OpenAITranscriber
) -> None:
    server.faults.append(Fail(429, headers={"Retry-After": "3600"}))

    assert "allows no more requests" in await refusal(ear)
    assert len(server.recordings) == 1


async def test_there_is_no_third_attempt(server: TranscriptionServer, ear: OpenAITranscriber) -> None:
    server.faults += [Fail(500, headers=AT_ONCE), Fail(502)]

    assert "internal error (status 502)" in await refusal(ear)
    assert len(server.recordings) == 2


async def test_a_service_that_hangs_up_twice_cannot_be_reached(
    server: TranscriptionServer, ear: OpenAITranscriber
) -> None:
    server.faults += [Drop(), Drop()]

    assert "could not be reached" in await refusal(ear)


async def test_a_service_that_is_not_there_cannot_be_reached() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        ear = OpenAITranscriber("whisper-1", None, f"http://127.0.0.1:{reserved.getsockname()[1]}/v1")
        assert "could not be reached" in await refusal(ear)
        await ear.aclose()


async def test_a_service_that_never_answers_is_not_waited_for(server: TranscriptionServer) -> None:
    server.faults.append(Hang())
    ear = OpenAITranscriber("whisper-1", server.key, server.url, seconds=0.5)

    assert "did not answer in time" in await refusal(ear)
    await ear.aclose()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fail(400, "Audio file might be\ncorrupted"), "rejected it (400): Audio file might be corrupted"),
        (Fail(404, "no such model"), "does not know the model"),
        (Fail(413), "too large"),
        (Raw(b"<html>"), "invalid response"),
        (Raw(b"[]"), "invalid response"),
        (Raw(b"\xff\xfe"), "invalid response"),
        (Raw(b'{"text": " "}'), "no speech"),
    ],
)
async def test_a_lasting_fault_is_told_in_words_and_not_tried_again(
    server: TranscriptionServer, ear: OpenAITranscriber, fault: Fail | Raw, words: str
) -> None:
    server.faults.append(fault)

    assert words in await refusal(ear)
    assert len(server.recordings) == 1


async def test_an_empty_and_an_enormous_recording_are_not_sent(server: TranscriptionServer) -> None:
    ear = OpenAITranscriber("whisper-1", server.key, server.url, max_bytes=1000)

    assert await refusal(ear, b"") == "it is empty"
    assert "1,001 bytes" in await refusal(ear, bytes(1001))
    assert server.recordings == []
    await ear.aclose()


@pytest.mark.parametrize("fault", [None, Drop(), Fail(400, "the key sk-wrong-key is bad"), Fail(403)])
async def test_the_key_is_in_no_log_and_no_error(
    server: TranscriptionServer, fault: Drop | Fail | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.faults.extend([fault] if fault else [])
    ear = OpenAITranscriber("whisper-1", "sk-wrong-key", server.url)

    with pytest.raises(TranscriptionFailed) as caught:
        await hear(ear)

    logging.getLogger(__name__).error("not heard", exc_info=caught.value)
    assert server.recordings[0].key == "sk-wrong-key"
    assert "sk-wrong-key" not in f"{caught.value} {caplog.text} {ear!r}"
    await ear.aclose()


async def test_cancelling_lets_go_of_the_service(server: TranscriptionServer, ear: OpenAITranscriber) -> None:
    server.faults.append(Hang())
    listening = asyncio.create_task(hear(ear))
    async with asyncio.timeout(PATIENCE):
        await server.asked.wait()
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening
        await server.left.wait()

    assert await hear(ear) == "Good morning."


async def test_a_closed_transcriber_opens_again_when_asked(ear: OpenAITranscriber) -> None:
    await hear(ear)
    await ear.aclose()
    await ear.aclose()

    assert await hear(ear) == "Good morning."


@pytest.mark.parametrize("kind", ["audio/ogg", "audio/mpeg", "AUDIO/OGG; codecs=opus", "application/ogg"])
def test_a_recording_is_sound(kind: str) -> None:
    assert is_sound(kind)


@pytest.mark.parametrize("kind", ["audio/midi", "video/mp4", "image/png", "text/plain", "application/pdf", ""])
def test_notes_pictures_films_and_texts_are_not_sound(kind: str) -> None:
    assert not is_sound(kind)

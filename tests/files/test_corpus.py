"""Files as people send them reach the model as words and pictures, through a real gateway."""

from __future__ import annotations

import base64
import io
import os
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from agent.log import Call
from agent.models.content import LoadedImage
from agent.models.images import ImageCache
from agent.testing import MemoryMedia
from agent.transcript import Result, Results
from gateway.api.history import read_history
from tests.files.make import CHINESE, GERMAN, JAPANESE, KOREAN, POLISH, RUSSIAN, TRADITIONAL, made
from tests.gateway.notes import conversations_of
from tests.gateway.stage import gateway, write_settings
from tests.servers.models import Call as ScriptedCall
from tests.servers.models import ModelServer, Say
from tests.servers.telegram import BotApi

MAX_SIDE = 1568

WORDS = {
    "strict.docx": ["Strict words"],
    "strict.xlsx": ["| Strict cell | 7 |"],
    "strict.pptx": ["### Strict slide"],
    "smartart.docx": ["Before the diagram", "- Plan\n- Build"],
    "smartart.pptx": ["### Process", "- Plan\n- Build", "Notes: Speak slowly"],
    "notes.xlsx": ["| day | 7 |", "### Notes of Sales\n\nB1: Ann: Is this right?"],
    "mail.eml": [
        *("Subject: Grüße, 你好", "Schöne Grüße\n\nanbei der Bericht.", "The figures", "a;b\n1;2"),
        *("Attachment bericht März.pdf (application/pdf", "The inner words"),
    ],
    "old mail.eml": ["From: Петр <p@example.org>\nSubject: Договор", "Привет, Анна! Договор готов."],
    "html mail.eml": ["Subject: Order\n\nYour order 7"],
    "sales.ipynb": [
        "# Sales\nby month",
        "plot(sales)",
        "Output:\ndone",
        "[Picture: cell 2, picture 1.png]",
        "bad value",
    ],
    "server.log": ["2026-01-02 line 0\n", "2026-01-02 line 99"],
    "people.csv": [RUSSIAN.strip()],
    "people koi8.txt": [RUSSIAN.strip()],
    "people dos.txt": [RUSSIAN.strip()],
    "notepad.txt": [RUSSIAN.strip()],
    "meeting.txt": [CHINESE.strip()],
    "taipei.txt": [TRADITIONAL.strip()],
    "minutes.txt": [JAPANESE.strip()],
    "minutes unix.txt": [JAPANESE.strip()],
    "unicode.txt": [JAPANESE.strip()],
    "seoul.txt": [KOREAN.strip()],
    "kunden.csv": [GERMAN.strip()],
    "polski.txt": [POLISH.strip()],
    "letter.msg": ["it is a message in Outlook's own format; please save it as EML or PDF"],
    "text.pages": ["it is in a format of Apple's programs; please export it as DOCX"],
}
"""What the model reads of each file."""

ODD_WORDS = {
    "lost picture.docx": ["Words beside a lost picture"],
    "program.xlsx": ["| due | 2026-03-04 |"],
    "windows.xlsx": ["| Cell of Windows | 7 |"],
    "invitation.eml": ["SUMMARY:Launch"],
    "empty text.eml": ["Only in the page"],
    "signed.eml": ["Signed words", "## Attachment a.csv (text/csv, 3 bytes)\n\na;b"],
    "bounce.eml": ["It could not be delivered.", "Status: 5.1.1"],
    "latin.eml": ["From: Jürgen Müller <j@example.org>", "Subject: Grüße aus Köln", "Schöne Grüße"],
    "marked.eml": ["Subject: Order\n\nYour order 7"],
}
"""The same of files that are not quite as their formats demand, as programs write them all the same."""

PICTURES = {
    "wide.png": (MAX_SIDE, 10),
    "photo.jpg": (MAX_SIDE, 1176),
    "rotated.jpg": (200, 300),
    "cut short.jpg": (1200, 900),
    "print.jpg": (300, 200),
    "scan.png": (320, 100),
    "animated.gif": (100, 80),
    "web.avif": (300, 200),
    "web.webp": (300, 200),
    "bad exif.webp": (300, 200),
    "fax.tiff": (100, 140),
    "scan.tiff": (300, 200),
    "old.bmp": (300, 200),
    "sales.ipynb": (320, 200),
}
"""The size of the picture that the model sees of each file."""

NOTED = {
    "wide.png": "9000 x 60 pixels, shown at 1568 x 10",
    "photo.jpg": "4000 x 3000 pixels, shown at 1568 x 1176",
    "cut short.jpg": "cut short: the rest of it is missing",
    "animated.gif": "animated: the first of 3 frames",
    "fax.tiff": "the first of 3 pages",
}


@pytest.mark.parametrize("files", [WORDS, ODD_WORDS], ids=["words", "odd words"])
async def test_documents_and_texts_are_read(
    tmp_path: Path, api: BotApi, models: ModelServer, files: dict[str, list[str]]
) -> None:
    async with gateway(write_settings(tmp_path, api, models)):
        ann = api.private(user_id=7, name="Ann")
        for name, words in files.items():
            models.script(Say(f"Read {name}."))
            await ann.send_document(made(name), name=name)
            await ann.hear(f"Read {name}.")
            shown = models.requests[-1].last_user_text
            assert [each for each in words if each not in shown] == [], f"{name}: {shown}"


async def test_pictures_are_seen_in_a_form_that_providers_accept(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    async with gateway(write_settings(tmp_path, api, models)):
        ann = api.private(user_id=7, name="Ann")
        for name, size in PICTURES.items():
            models.script(Say(f"Seen {name}."))
            await ann.send_document(made(name), name=name)
            await ann.hear(f"Seen {name}.")
            message = models.requests[-1].messages[-1]
            assert NOTED.get(name, "") in message.text, name
            (data,) = message.images
            with Image.open(io.BytesIO(data)) as image:
                assert image.format in ("PNG", "JPEG", "WEBP"), name
                assert image.size == size, name
                assert image.mode in ("RGB", "RGBA", "L", "P"), name
                assert getattr(image, "n_frames", 1) == 1, name
                if name in ("print.jpg", "scan.png", "web.avif"):
                    grey = image.convert("L")
                    assert grey.getpixel((5, 50)) < 30, name
                    assert grey.getpixel((size[0] - 5, 50)) > 200, name
            assert len(data) < 3_500_000, name


async def test_a_picture_is_made_to_fit_once_and_its_original_stays_in_the_workspace(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    models.script([ScriptedCall("list_files", {"path": "received"})], Say("Wide."), Say("Still there."))
    async with gateway(write_settings(tmp_path, api, models)):
        ann = api.private(user_id=7, name="Ann")
        await ann.send_document(made("wide.png"), name="wide.png")
        await ann.hear("Wide.")
        await ann.say("again")
        await ann.hear("Still there.")
    first, _, last = models.requests
    assert [len(message.images) for message in first.messages if message.role == "user"] == [1]
    assert [message.images for message in last.messages if message.images] == [first.messages[-1].images]
    (listed,) = models.requests[1].results.values()
    assert listed.endswith(f"wide.png  {len(made('wide.png')):,}")
    assert "\n" not in listed


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("phone.heic", "it is in HEIC, which is not supported; please send it as JPEG or PNG"),
        ("broken.jpg", "it is not a picture in a format that is supported, or it is damaged"),
    ],
)
async def test_a_picture_that_cannot_be_shown_is_named_to_the_person_and_the_model(
    tmp_path: Path, api: BotApi, models: ModelServer, name: str, reason: str
) -> None:
    models.script(Say("I cannot see it."))
    async with gateway(write_settings(tmp_path, api, models)):
        ann = api.private(user_id=7, name="Ann")
        await ann.send_document(made(name), name=name)
        await ann.hear(f"⚠️ The picture {name} cannot be shown to the model: {reason}")
        await ann.hear("I cannot see it.")
    message = models.requests[0].messages[-1]
    assert f"The picture {name} cannot be shown to the model: {reason}" in message.text
    assert message.images == ()


async def test_the_middle_of_a_long_document_is_read_with_the_file_tools(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    async with gateway(write_settings(tmp_path, api, models)):
        ann = api.private(user_id=7, name="Ann")
        models.script(Say("It is long."))
        await ann.send_document(made("report.pdf"), name="report.pdf")
        await ann.hear("It is long.")
        shown = models.requests[-1].last_user_text
        assert "## Page 1 of 60" in shown
        assert "4711" not in shown
        _, _, rest = shown.partition("all of it is in ")
        path, _, rest = rest.partition(", read on with read_file from offset=")
        offset = int(rest.partition(" ")[0])
        assert path.startswith("received/")
        assert path.endswith("-report.pdf.md")
        for number in range(20):
            models.script(
                [ScriptedCall("read_file", {"path": path, "offset": offset}, f"call_{number}")], Say(f"Part {number}.")
            )
            await ann.say("read on")
            await ann.hear(f"Part {number}.")
            text = list(models.requests[-1].results.values())[-1]
            if "4711" in text:
                return
            offset = int(text.rpartition("read on with offset=")[2].rstrip("]"))
    raise AssertionError("the middle was not reached")


async def test_a_name_of_ninety_emoji_is_cut_at_bytes(tmp_path: Path, api: BotApi, models: ModelServer) -> None:
    name = "🎈" * 90 + ".csv"
    models.script(Say("Many balloons."), [ScriptedCall("list_files", {"path": "received"})], Say("There."))
    async with gateway(write_settings(tmp_path, api, models)):
        ann = api.private(user_id=7, name="Ann")
        await ann.send_document(b"a;b\n", name=name)
        await ann.hear("Many balloons.")
        await ann.say("where is it?")
        await ann.hear("There.")
    (listed,) = models.requests[-1].results.values()
    assert listed.endswith("🎈.csv  4")
    assert len(os.fsencode(listed)) < 255
    shown = models.requests[0].last_user_text
    assert listed.removesuffix("  4") in shown


async def test_what_is_sent_is_not_doubled_in_what_people_see(tmp_path: Path, api: BotApi, models: ModelServer) -> None:
    models.script(Say("Read."))
    async with gateway(write_settings(tmp_path, api, models)) as built:
        ann = api.private(user_id=7, name="Ann")
        await ann.send_document(made("sales.ipynb"), name="sales.ipynb")
        await ann.hear("Read.")
        (conversation,) = await conversations_of(built.gateway.store, "telegram")
        page = await read_history(built.gateway, conversation.session, 10)
    messages = [item for item in page.items if item.kind == "message"]
    assert [[file.name for file in message.files] for message in messages] == [["sales.ipynb"]]


@pytest.mark.parametrize("name", ["wide.png", "photo.jpg"])
async def test_a_large_picture_of_a_tool_is_made_to_fit_when_it_is_shown(name: str) -> None:
    media = MemoryMedia()
    call = Call("1", "look", "{}")
    picture = await media.put(made(name), name)
    shown = await ImageCache(media).load([Results((Result(call, "done", "Here.", (picture,)),))])
    image = shown[picture.hash]
    assert isinstance(image, LoadedImage)
    data = base64.b64decode(image.data)
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.size == PICTURES[name]
        assert opened.get_format_mimetype() == image.media_type
    assert len(data) < 3_500_000


async def test_a_picture_of_a_tool_that_cannot_be_decoded_is_told_in_words() -> None:
    media = MemoryMedia()
    picture = replace(await media.put(made("broken.jpg"), "broken.jpg"), width=9000)
    result = Result(Call("1", "look", "{}"), "done", "Here.", (picture,))
    shown = await ImageCache(media).load([Results((result,))])
    assert "it is damaged" in str(shown[picture.hash])


async def test_a_file_is_in_the_workspace_under_its_name_as_models_write_it(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    models.script([ScriptedCall("list_files", {"path": "received"})], Say("I see it."))
    async with gateway(write_settings(tmp_path, api, models)):
        ann = api.private(user_id=7, name="Ann")
        await ann.send_document(b"one", name="Bob\u2019s U\u0308bersicht 3.45\u202fPM.txt")
        await ann.hear("I see it.")
    assert "-Bob's \u00dcbersicht 3.45 PM.txt" in models.requests[0].last_user_text
    (listed,) = models.requests[1].results.values()
    assert listed.endswith("-Bob's \u00dcbersicht 3.45 PM.txt  3")

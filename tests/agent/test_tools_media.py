"""The chart tool and the media tools, with real pictures."""

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from agent.testing import MemoryMedia
from agent.tool import ToolContext, ToolError
from agent.tool_result import ToolResult
from agent.tools import load_tools
from tests.children import children


class Studio:
    def __init__(self, workspace: Path, media: MemoryMedia | None = None) -> None:
        self.workspace = workspace
        self.media = media or MemoryMedia()
        self.seen: tuple[Any, ...] = ()

    async def use(self, name: str, **arguments: object) -> ToolResult:
        (tool,) = load_tools([name])
        context = ToolContext(self.workspace, self.media, _ignore, self.seen)
        return await tool.call(context, json.dumps(arguments))

    async def picture(self, attachment: Any) -> Image.Image:
        picture = Image.open(io.BytesIO(await self.media.read(attachment)))
        picture.load()
        return picture


async def _ignore(text: str) -> None:
    pass


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def encoded(width: int, height: int, form: str, mode: str = "RGB", colour: Any = None) -> bytes:
    data = io.BytesIO()
    Image.new(mode, (width, height), colour or "teal").save(data, form)
    return data.getvalue()


VALUES = [{"name": "a", "values": [1, 2.5, 3]}]
LABELS = ["x", "y", "z"]


@pytest.mark.parametrize(
    "data",
    [
        {"kind": "bar", "series": VALUES, "labels": LABELS},
        {"kind": "line", "series": [{"name": "a", "values": [5], "x": [1]}], "x_label": "time"},
        {"kind": "pie", "series": VALUES, "labels": LABELS},
        {"kind": "scatter", "series": [{"name": "ü", "values": [1e12, -1e12], "x": [0.1, 0.2]}]},
    ],
    ids=lambda data: data["kind"],
)
async def test_a_chart_is_drawn_and_handed_to_the_person(studio: Studio, data: dict[str, Any]) -> None:
    result = await studio.use("draw_chart", title="My Chart: 50 %", **data)
    assert result.text == f"A {data['kind']} chart “My Chart: 50 %” was drawn and is shown to the person."
    (attachment,) = result.attachments
    assert (attachment.name, attachment.media_type) == ("my-chart-50.png", "image/png")
    assert result.images == ()
    picture = await studio.picture(attachment)
    assert picture.size == (1600, 960)
    assert len(picture.convert("RGB").getcolors(100_000) or []) > 20


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({"kind": "bar", "series": [{"name": "a", "values": [0, 0]}], "title": ""}, id="nothing but zeros"),
        pytest.param(
            {"kind": "bar", "series": VALUES, "labels": ["$1 and $2", "日本語 🎉 ünï", "w" * 500], "title": "t" * 200},
            id="odd labels",
        ),
        pytest.param({"kind": "line", "series": [{"name": "", "values": [7.0] * 5000}], "title": "%$\\{}"}, id="flat"),
        pytest.param({"kind": "line", "series": [{"name": "a", "values": [1e300, -1e300]}], "title": "x"}, id="huge"),
        pytest.param(
            {"kind": "scatter", "series": [{"name": "a", "values": [0], "x": [0]}], "title": "x"}, id="one point"
        ),
        pytest.param(
            {"kind": "bar", "series": [{"name": f"s{n}" * 9, "values": [n]} for n in range(20)], "title": "x"},
            id="20 series",
        ),
        pytest.param(
            {"kind": "bar", "series": [{"name": "a", "values": list(range(5000))}], "title": "x"}, id="5000 bars"
        ),
        pytest.param({"kind": "line", "series": VALUES, "labels": ["", "", ""], "title": "x"}, id="empty labels"),
        pytest.param(
            {"kind": "pie", "series": [{"name": "a", "values": [1]}, {"name": "b", "values": [2]}], "title": "x"},
            id="a slice for each series",
        ),
    ],
)
async def test_unusual_data_are_drawn(studio: Studio, data: dict[str, Any]) -> None:
    (attachment,) = (await studio.use("draw_chart", **data)).attachments
    assert attachment.width == 1600


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"kind": "bar", "series": []}, "no values"),
        ({"kind": "bar", "series": [{"name": "a", "values": []}]}, "no values"),
        ({"kind": "bar", "series": VALUES, "labels": ["x"]}, "3 values but there are 1 labels"),
        ({"kind": "line", "series": [{"name": "a", "values": [1, 2], "x": [1]}]}, "2 values but 1 x"),
        ({"kind": "line", "series": [{"name": "a", "values": [1], "x": [1]}], "labels": ["a"]}, "not both"),
        ({"kind": "line", "series": [{"name": "a", "values": [float("nan")]}]}, "finite"),
        ({"kind": "line", "series": [{"name": "a", "values": [float("inf")]}]}, "finite"),
        ({"kind": "line", "series": [{"name": "a", "values": [1.7e308]}]}, "too large"),
        ({"kind": "line", "series": [{"name": "a", "values": [1] * 5001}]}, "5,001 values"),
        ({"kind": "line", "series": [{"name": "a", "values": [1]}] * 21}, "21 series"),
        ({"kind": "line", "series": [{"name": "a", "values": ["many"]}]}, "Invalid arguments"),
        ({"kind": "scatter", "series": VALUES}, "needs x"),
        ({"kind": "pie", "series": VALUES}, "a label for each value"),
        ({"kind": "pie", "series": [{"name": "a", "values": [3, -1]}], "labels": ["x", "y"]}, "negative"),
        ({"kind": "pie", "series": [{"name": "a", "values": [0]}], "labels": ["x"]}, "above zero"),
        ({"kind": "pie", "series": VALUES * 2, "labels": LABELS}, "one series"),
        ({"kind": "radar", "series": VALUES}, "kind"),
    ],
)
async def test_data_that_make_no_chart_are_refused_in_words(studio: Studio, data: dict[str, Any], words: str) -> None:
    with pytest.raises(ToolError, match=words):
        await studio.use("draw_chart", title="x", **data)


async def test_a_chart_the_store_does_not_take_is_told(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="more than the 10 that are allowed"):
        await Studio(tmp_path, MemoryMedia(max_bytes=10)).use("draw_chart", kind="bar", title="x", series=VALUES)


async def test_cancelling_a_chart_ends_the_drawing(studio: Studio) -> None:
    task = asyncio.create_task(studio.use("draw_chart", kind="bar", title="x", series=VALUES))
    async with asyncio.timeout(60):
        while not children():  # noqa: ASYNC110 - the start of a process is no event of ours
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while children():  # noqa: ASYNC110 - nor is its end
            await asyncio.sleep(0.005)


async def test_a_file_is_sent_with_its_caption(studio: Studio) -> None:
    (studio.workspace / "out").mkdir()
    (studio.workspace / "out" / "report ü.csv").write_text("a,b\n")
    result = await studio.use("send_file", path="out/report ü.csv", caption="The report")
    (attachment,) = result.attachments
    assert (attachment.name, attachment.size, result.caption) == ("report ü.csv", 4, "The report")
    assert result.text.startswith("report ü.csv (")
    assert await studio.media.read(attachment) == b"a,b\n"


@pytest.mark.parametrize(
    ("path", "words"), [("none", "no file"), ("empty", "empty"), (".", "folder"), ("big", "200,000,000")]
)
async def test_a_file_that_cannot_be_sent_is_told(studio: Studio, path: str, words: str) -> None:
    (studio.workspace / "empty").touch()
    with (studio.workspace / "big").open("wb") as file:
        file.truncate(200_000_001)
    with pytest.raises(ToolError, match=words):
        await studio.use("send_file", path=path)


async def test_a_file_the_store_does_not_take_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x" * 11)
    with pytest.raises(ToolError, match="11 bytes, more than the 10"):
        await Studio(tmp_path, MemoryMedia(max_bytes=10)).use("send_file", path="a")


async def test_a_small_picture_is_shown_as_it_is_to_the_model_only(studio: Studio) -> None:
    data = encoded(40, 30, "PNG")
    (studio.workspace / "a.png").write_bytes(data)
    result = await studio.use("view_image", path="a.png")
    assert result.text == "a.png from the workspace: image/png, 40 x 30 pixels."
    assert result.attachments == ()
    assert await studio.media.read(result.images[0]) == data


@pytest.mark.parametrize(("form", "media_type"), [("JPEG", "image/jpeg"), ("PNG", "image/png"), ("BMP", "image/png")])
async def test_a_large_picture_is_scaled_down(studio: Studio, form: str, media_type: str) -> None:
    (studio.workspace / "a").write_bytes(encoded(4000, 1000, form))
    (image,) = (await studio.use("view_image", path="a")).images
    assert (image.width, image.height, image.media_type) == (1568, 392, media_type)


async def test_a_picture_in_printers_colours_is_shown(studio: Studio) -> None:
    (studio.workspace / "a.jpg").write_bytes(encoded(2000, 100, "JPEG", "CMYK", (0, 100, 0, 0)))
    (image,) = (await studio.use("view_image", path="a.jpg")).images
    assert (await studio.picture(image)).mode == "RGB"


async def test_a_clear_picture_stays_clear(studio: Studio) -> None:
    (studio.workspace / "a.png").write_bytes(encoded(2000, 100, "PNG", "RGBA", (1, 2, 3, 0)))
    (image,) = (await studio.use("view_image", path="a.png")).images
    assert (await studio.picture(image)).getpixel((5, 5)) == (0, 0, 0, 0)


async def test_a_scaled_picture_stands_upright(studio: Studio) -> None:
    data = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (3136, 1568)).save(data, "JPEG", exif=exif)
    (studio.workspace / "a.jpg").write_bytes(data.getvalue())
    (image,) = (await studio.use("view_image", path="a.jpg")).images
    assert (image.width, image.height) == (784, 1568)


async def test_a_picture_heavy_in_bytes_is_made_lighter(studio: Studio) -> None:
    data = io.BytesIO()
    Image.effect_noise((1500, 1500), 100).convert("RGBA").resize((1500, 1500)).save(data, "PNG", compress_level=0)
    (studio.workspace / "a.png").write_bytes(data.getvalue())
    (image,) = (await studio.use("view_image", path="a.png")).images
    assert image.size <= 3_500_000


async def test_a_picture_of_the_conversation_is_found_by_name_the_newest_first(studio: Studio) -> None:
    old = await studio.media.put(encoded(10, 10, "PNG"), "photo.png")
    new = await studio.media.put(encoded(20, 20, "PNG"), "photo.png")
    studio.seen = (old, new)
    result = await studio.use("view_image", path="photo.png")
    assert result.text == "photo.png from the conversation: image/png, 20 x 20 pixels."
    assert result.images == (new,)
    (studio.workspace / "photo.png").write_bytes(encoded(30, 30, "PNG"))
    assert "from the workspace" in (await studio.use("view_image", path="photo.png")).text


async def test_a_picture_no_longer_kept_is_told(studio: Studio) -> None:
    studio.seen = (await MemoryMedia().put(encoded(10, 10, "PNG"), "photo.png"),)
    with pytest.raises(ToolError, match="no longer in the media store"):
        await studio.use("view_image", path="photo.png")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a picture",
        b"\x89PNG\r\n\x1a\n",
        b"<svg/>",
    ],
)
async def test_what_is_no_whole_picture_is_refused(studio: Studio, data: bytes) -> None:
    (studio.workspace / "a.png").write_bytes(data)
    with pytest.raises(ToolError, match=r"a\.png cannot be shown as a picture"):
        await studio.use("view_image", path="a.png")


async def test_a_picture_that_would_swell_is_refused(studio: Studio) -> None:
    (studio.workspace / "bomb.png").write_bytes(encoded(12_000, 12_000, "PNG", "1", 1))
    with pytest.raises(ToolError, match="cannot be shown"):
        await studio.use("view_image", path="bomb.png")


async def test_a_picture_is_found_by_its_name_as_models_write_it(studio: Studio) -> None:
    name = "Screenshot at 3.45\u202fPM.png"
    (studio.workspace / name).write_bytes(encoded(4, 3, "PNG"))
    assert "4 x 3" in (await studio.use("view_image", path="Screenshot at 3.45 PM.png")).text
    (studio.workspace / name).unlink()
    studio.seen = (await studio.media.put(encoded(5, 3, "PNG"), name),)
    assert "from the conversation" in (await studio.use("view_image", path="Screenshot at 3.45 PM.png")).text

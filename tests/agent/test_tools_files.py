"""The file tools, on a real folder."""

import json
import os
import shutil
from pathlib import Path

import pytest

from agent.frames import escape
from agent.testing import MemoryMedia
from agent.tool import ToolContext, ToolError
from agent.tools import TOOL_NAMES, UnknownTool, load_tools


class Desk:
    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace

    async def use(self, name: str, **arguments: object) -> str:
        (tool,) = load_tools([name])
        return (await tool.call(ToolContext(self.workspace, MemoryMedia(), _ignore), json.dumps(arguments))).text


async def _ignore(text: str) -> None:
    pass


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    return Desk(workspace)


def test_a_toolbox_has_the_named_tools_in_order_each_once() -> None:
    assert [tool.name for tool in load_tools(["list_files", "shell", "list_files"])] == ["list_files", "shell"]
    assert [tool.name for tool in load_tools(TOOL_NAMES)] == list(TOOL_NAMES)


def test_every_tool_tells_the_model_what_it_does_and_takes() -> None:
    for tool in load_tools(TOOL_NAMES):
        assert len(tool.description) > 30
        assert tool.spec.schema["type"] == "object"
        assert tool.spec.schema["additionalProperties"] is False


def test_an_unknown_tool_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownTool, match="did you mean 'read_file'"):
        load_tools(["readfile"])


async def test_a_written_file_is_read_again(desk: Desk) -> None:
    assert (
        await desk.use("write_file", path="notes/today/a.txt", content="one\ntwo\n")
        == "Created notes/today/a.txt (8 bytes)"
    )
    assert await desk.use("read_file", path="notes/today/a.txt") == "one\ntwo"
    assert (
        await desk.use("write_file", path="notes/today/a.txt", content="ünï\r\n")
        == "Replaced notes/today/a.txt (7 bytes)"
    )
    assert (desk.workspace / "notes/today/a.txt").read_bytes() == "ünï\r\n".encode()


async def test_writing_keeps_permissions_and_leaves_nothing_else_behind(desk: Desk) -> None:
    script = desk.workspace / "run.sh"
    script.write_text("old")
    script.chmod(0o755)
    await desk.use("write_file", path="run.sh", content="new")
    assert script.stat().st_mode & 0o777 == 0o755
    assert os.listdir(desk.workspace) == ["run.sh"]


async def test_a_failed_write_keeps_the_old_file(desk: Desk) -> None:
    (desk.workspace / "a").write_text("old")
    with pytest.raises(ToolError):
        await desk.use("write_file", path="a/b", content="new")
    assert (desk.workspace / "a").read_text() == "old"


async def test_a_long_file_says_how_to_read_on(desk: Desk) -> None:
    (desk.workspace / "long").write_text("".join(f"line {number}\n" for number in range(1, 3001)))
    text = await desk.use("read_file", path="long")
    assert text.startswith("line 1\n")
    assert text.endswith("line 2000\n[lines 1 to 2,000 of 3,000; read on with offset=2001]")
    assert (await desk.use("read_file", path="long", offset=2999)).split("\n") == ["line 2999", "line 3000"]
    assert await desk.use("read_file", path="long", offset=5, limit=1) == (
        "line 5\n[lines 5 to 5 of 3,000; read on with offset=6]"
    )
    with pytest.raises(ToolError, match="has 3,000 lines"):
        await desk.use("read_file", path="long", offset=3001)


async def test_an_answer_is_bounded_whatever_the_lines_are_like(desk: Desk) -> None:
    (desk.workspace / "wide").write_text("\n".join(["x" * 10_000] * 20))
    text = await desk.use("read_file", path="wide")
    assert len(text) < 61_000
    assert "read on with offset=6" in text
    (desk.workspace / "one").write_text("y" * 200_000)
    text = await desk.use("read_file", path="one")
    assert len(text) < 61_000
    assert "200,000 characters and was cut here" in text


async def test_an_empty_file_is_said_to_be_empty(desk: Desk) -> None:
    (desk.workspace / "empty").touch()
    assert await desk.use("read_file", path="empty") == "[empty is empty]"


async def test_a_binary_file_is_refused_with_its_type(desk: Desk) -> None:
    (desk.workspace / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(ToolError, match="binary \\(image/png, 108 bytes\\)"):
        await desk.use("read_file", path="a.png")
    (desk.workspace / "blob").write_bytes(b"abc\0def")
    with pytest.raises(ToolError, match="unknown type, 7 bytes"):
        await desk.use("read_file", path="blob")


async def test_text_that_only_begins_like_a_picture_is_text(desk: Desk) -> None:
    (desk.workspace / "cars.csv").write_text("BMW,3\nVW,4\n")
    assert await desk.use("read_file", path="cars.csv") == "BMW,3\nVW,4"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("für Zoë", "latin-1"),
        ("Привет, Анна!\nДоговор готов, пожалуйста, проверьте его завтра.\n", "cp1251"),  # noqa: RUF001 - Cyrillic
        ("会議は東京で行います。よろしくお願いします。\n", "shift-jis"),
        ("我们在北京开会\n请大家准时参加\n", "gb18030"),
        ("Grüße\nund mehr\n", "utf-16-le"),
        ("Grüße\n", "utf-16"),
        ("Grüße\n", "utf-8-sig"),
    ],
)
async def test_text_in_another_encoding_is_read_and_keeps_it(desk: Desk, text: str, encoding: str) -> None:
    (desk.workspace / "old.txt").write_bytes(text.encode(encoding))
    assert await desk.use("read_file", path="old.txt") == text.removesuffix("\n")
    await desk.use("edit_file", path="old.txt", old=text[:3], new="1")
    assert (desk.workspace / "old.txt").read_bytes() == ("1" + text[3:]).encode(encoding)


async def test_text_in_an_unknown_encoding_is_read_but_not_edited(desk: Desk) -> None:
    (desk.workspace / "old.txt").write_bytes("Καλημέρα κόσμε".encode("cp1253"))
    assert "\ufffd" in await desk.use("read_file", path="old.txt")
    with pytest.raises(ToolError, match="not in an encoding"):
        await desk.use("edit_file", path="old.txt", old=" ", new="g")


async def test_what_an_encoding_does_not_have_is_not_written(desk: Desk) -> None:
    (desk.workspace / "old.txt").write_bytes("für".encode("latin-1"))
    with pytest.raises(ToolError, match="cannot be written in cp1252"):
        await desk.use("edit_file", path="old.txt", old="für", new="日")
    assert (desk.workspace / "old.txt").read_bytes() == "für".encode("latin-1")


async def test_a_log_with_nuls_is_read(desk: Desk) -> None:
    (desk.workspace / "a.log").write_bytes(bytes(500) + b"one\ntwo\n")
    assert await desk.use("read_file", path="a.log") == "one\ntwo"


async def test_a_file_too_large_is_refused(desk: Desk) -> None:
    with (desk.workspace / "big").open("wb") as file:
        file.truncate(10_000_001)
    with pytest.raises(ToolError, match="10,000,001 bytes"):
        await desk.use("read_file", path="big")


@pytest.mark.parametrize("path", ["../secret.txt", "/etc/passwd", "a/../../secret.txt", "link", "folder/secret.txt"])
@pytest.mark.parametrize("tool", ["read_file", "write_file", "edit_file", "list_files", "send_file", "view_image"])
async def test_nothing_outside_the_workspace_is_reached(desk: Desk, tool: str, path: str) -> None:
    outside = desk.workspace.parent
    (desk.workspace / "link").symlink_to(outside / "secret.txt")
    (desk.workspace / "folder").symlink_to(outside)
    more = {"write_file": {"content": "x"}, "edit_file": {"old": "secret", "new": "x"}}.get(tool, {})
    with pytest.raises(ToolError, match="outside the workspace"):
        await desk.use(tool, path=path, **more)
    assert (outside / "secret.txt").read_text() == "secret"


async def test_links_within_the_workspace_are_followed(desk: Desk) -> None:
    (desk.workspace / "real.txt").write_text("one")
    (desk.workspace / "link.txt").symlink_to("real.txt")
    await desk.use("edit_file", path="link.txt", old="one", new="two")
    assert (desk.workspace / "link.txt").is_symlink()
    assert (desk.workspace / "real.txt").read_text() == "two"


async def test_a_workspace_that_is_itself_a_link_works(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "other").symlink_to(desk.workspace)
    other = Desk(tmp_path / "other")
    await other.use("write_file", path=str(tmp_path / "other" / "a.txt"), content="x")
    assert await other.use("read_file", path="a.txt") == "x"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("none.txt", "no file"),
        (".", "folder"),
        ("\0", "valid path"),
        ("ring", "ring"),
        ("n" * 300, "nnn"),
        ("pipe", "regular"),
    ],
)
async def test_what_cannot_be_read_is_told(desk: Desk, path: str, words: str) -> None:
    (desk.workspace / "ring").symlink_to("ring")
    os.mkfifo(desk.workspace / "pipe")
    with pytest.raises(ToolError, match=words):
        await desk.use("read_file", path=path)
    with pytest.raises(ToolError):
        await desk.use("write_file", path=path if path != "none.txt" else "pipe", content="x")


async def test_an_edit_replaces_the_one_place(desk: Desk) -> None:
    (desk.workspace / "a.py").write_text("a = 1\nb = 2\n")
    assert await desk.use("edit_file", path="a.py", old="b = 2", new="b = 3") == "Edited a.py (1 place)"
    assert (desk.workspace / "a.py").read_text() == "a = 1\nb = 3\n"


async def test_an_edit_of_several_places_wants_to_be_asked_for(desk: Desk) -> None:
    (desk.workspace / "a.py").write_text("x\ny\nx\n")
    with pytest.raises(ToolError, match=r"occurs 2 times in a.py \(lines 1, 3\)"):
        await desk.use("edit_file", path="a.py", old="x", new="z")
    assert await desk.use("edit_file", path="a.py", old="x", new="z", all=True) == "Edited a.py (2 places)"
    assert (desk.workspace / "a.py").read_text() == "z\ny\nz\n"


@pytest.mark.parametrize(
    ("old", "words"),
    [
        ("def f():\n  return 1", "spaces and line ends"),
        ("def f():\n    return 2", "Its first line does, in line 2"),
        ("nothing like it", "Read the file again"),
    ],
)
async def test_an_edit_that_does_not_fit_says_what_is_different(desk: Desk, old: str, words: str) -> None:
    (desk.workspace / "a.py").write_text("\ndef f():\n    return 1\n")
    with pytest.raises(ToolError, match=words):
        await desk.use("edit_file", path="a.py", old=old, new="x")


@pytest.mark.parametrize(
    ("before", "old", "new", "after"),
    [
        (b"one\r\ntwo\r\nthree\r\n", "one\ntwo", "1\n2", b"1\r\n2\r\nthree\r\n"),
        (b"one\r\ntwo\r\n", "two", "2\n3", b"one\r\n2\r\n3\r\n"),
        (b"one\r\ntwo", "two", "2\n3", b"one\r\n2\r\n3"),
        (b"one\r\ntwo\r\n", "one\r\ntwo", "1\r\n2\r\n3", b"1\r\n2\r\n3\r\n"),
        (b"one\r\ntwo\nthree\r\n", "one\ntwo\nthree", "1\ntwo\n3", b"1\r\ntwo\n3\r\n"),
        (b"one\ntwo\r\nthree\n", "one\ntwo", "1\n2", b"1\n2\r\nthree\n"),
        (b"one\r\ntwo\nthree\n", "three", "3\n4", b"one\r\ntwo\n3\n4\n"),
        (b"one\rtwo\r", "one\ntwo", "1\n2", b"1\r2\r"),
        (b"one\r\ntwo\r\n", "one\n", "", b"two\r\n"),
        (b"one\ntwo\n", "two", "2\r\n3", b"one\n2\r\n3\n"),
    ],
)
async def test_an_edit_keeps_the_line_ends_of_the_file(
    desk: Desk, before: bytes, old: str, new: str, after: bytes
) -> None:
    (desk.workspace / "dos.txt").write_bytes(before)
    assert await desk.use("edit_file", path="dos.txt", old=old, new=new) == "Edited dos.txt (1 place)"
    assert (desk.workspace / "dos.txt").read_bytes() == after


@pytest.mark.parametrize(
    ("before", "old", "new", "after"),
    [
        ("10\u00a0km away\n", "10 km away", "20 km away", "20\u00a0km away\n"),
        (
            "say \u201chello\u201d, it\u2019s me\n",
            'say "hello", it\'s me',
            'say "hello", it\'s you',
            "say \u201chello\u201d, it\u2019s you\n",
        ),
        ("pages 1\u20132\n", "pages 1-2", "pages 1-3", "pages 1\u20133\n"),
        ("cafe\u0301 noir\n", "café noir", "café crème", "cafe\u0301 crème\n"),
        ("café noir\n", "cafe\u0301 noir", "tea", "tea\n"),
        ("\u1112\u1161\u11ab글\n", "한글", "말", "말\n"),
        ("one  \ntwo\t\nthree\n", "one\ntwo\nthree", "one\n2\nthree", "one  \n2\t\nthree\n"),
        ("zero\u200bwidth\n", "zerowidth", "none", "none\n"),
        ("a\u00a0b  \r\nc\r\n", "a b\nc", "a b\nd\ne", "a\u00a0b  \r\nd\r\ne\r\n"),
    ],
)
async def test_an_edit_finds_what_is_written_a_little_differently(
    desk: Desk, before: str, old: str, new: str, after: str
) -> None:
    (desk.workspace / "a.txt").write_bytes(before.encode())
    assert "written differently" in await desk.use("edit_file", path="a.txt", old=old, new=new)
    assert (desk.workspace / "a.txt").read_bytes().decode() == after


async def test_what_is_written_differently_in_two_places_is_not_guessed(desk: Desk) -> None:
    (desk.workspace / "a.txt").write_text("a\u00a0b\na\u2009b\n")
    with pytest.raises(ToolError, match=r"occurs 2 times in a.txt \(lines 1, 2\)"):
        await desk.use("edit_file", path="a.txt", old="a b", new="c")
    (desk.workspace / "a.txt").write_text("a\u00a0b\na b\n")
    await desk.use("edit_file", path="a.txt", old="a b", new="c")
    assert (desk.workspace / "a.txt").read_text() == "a\u00a0b\nc\n"


async def test_an_edit_takes_brackets_as_they_were_shown(desk: Desk) -> None:
    (desk.workspace / "a.tsx").write_text("return <Message id={1}>hi</Message>;\n")
    shown = escape("return <Message id={1}>hi</Message>;")
    assert shown.startswith("return &lt;Message")
    told = await desk.use("edit_file", path="a.tsx", old=shown, new=shown.replace("hi", "bye"))
    assert "escaped" in told
    assert (desk.workspace / "a.tsx").read_text() == "return <Message id={1}>bye</Message>;\n"
    (desk.workspace / "a.tsx").write_text("&lt;Message> <Message>\n")
    await desk.use("edit_file", path="a.tsx", old="&lt;Message>", new="x")
    assert (desk.workspace / "a.tsx").read_text() == "x <Message>\n"


async def test_a_workspace_that_was_deleted_is_made_again(desk: Desk) -> None:
    shutil.rmtree(desk.workspace)
    assert await desk.use("list_files") == "[nothing in . matches **/*]"
    shutil.rmtree(desk.workspace)
    await desk.use("write_file", path="notes/a.txt", content="x")
    assert (desk.workspace / "notes/a.txt").read_text() == "x"
    assert desk.workspace.stat().st_mode & 0o777 == 0o700


async def test_an_edit_that_changes_nothing_is_refused(desk: Desk) -> None:
    (desk.workspace / "a").write_text("x")
    with pytest.raises(ToolError, match="the same"):
        await desk.use("edit_file", path="a", old="x", new="x")
    with pytest.raises(ToolError, match="old"):
        await desk.use("edit_file", path="a", old="", new="x")


async def test_text_that_is_no_unicode_is_refused(desk: Desk) -> None:
    with pytest.raises(ToolError):
        await desk.use("write_file", path="a", content="\ud800")
    assert not (desk.workspace / "a").exists()


async def test_a_listing_names_files_with_sizes_and_folders(desk: Desk) -> None:
    for name in ("b.txt", "src/a.py", "src/deep/c.py", ".git/config", "node_modules/x/y.js"):
        await desk.use("write_file", path=name, content="12345")
    assert (await desk.use("list_files")).split("\n") == [
        *(".git/", "b.txt  5", "node_modules/", "src/", "src/a.py  5", "src/deep/", "src/deep/c.py  5"),
    ]
    assert await desk.use("list_files", path="src", pattern="*.py") == "a.py  5"
    assert await desk.use("list_files", pattern="**/c.*") == "src/deep/c.py  5"
    assert await desk.use("list_files", pattern="src/**") == "src/\nsrc/a.py  5\nsrc/deep/\nsrc/deep/c.py  5"
    assert await desk.use("list_files", path=".git") == "config  5"
    assert await desk.use("list_files", pattern="*.exe") == "[nothing in . matches *.exe]"


async def test_a_long_listing_is_bounded(desk: Desk) -> None:
    for number in range(505):
        (desk.workspace / f"{number:03}").touch()
    lines = (await desk.use("list_files")).split("\n")
    assert len(lines) == 501
    assert lines[-1] == "[5 more are not shown; narrow it down with path or pattern]"


async def test_a_name_that_is_not_utf_8_does_not_break_a_listing(desk: Desk) -> None:
    (desk.workspace / os.fsdecode(b"\xff.txt")).touch()
    assert await desk.use("list_files") == "\ufffd.txt  0"


@pytest.mark.parametrize("pattern", ["../*", "/etc/*", "", "a/../../*"])
async def test_a_pattern_does_not_lead_out(desk: Desk, pattern: str) -> None:
    with pytest.raises(ToolError, match="not a pattern"):
        await desk.use("list_files", pattern=pattern)


async def test_a_pattern_of_many_stars_is_no_trap(desk: Desk) -> None:
    (desk.workspace.joinpath(*"a" * 40)).mkdir(parents=True)
    assert (await desk.use("list_files", pattern="**/a/" * 15 + "b")).startswith("[nothing")


async def test_a_listing_of_what_is_no_folder_is_refused(desk: Desk) -> None:
    (desk.workspace / "a").touch()
    with pytest.raises(ToolError, match="a file"):
        await desk.use("list_files", path="a")
    with pytest.raises(ToolError, match="no folder"):
        await desk.use("list_files", path="b")


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("Screenshot at 3.45\u202fPM.txt", "Screenshot at 3.45 PM.txt"),
        ("U\u0308bersicht.txt", "\u00dcbersicht.txt"),
        ("Bob\u2019s notes.txt", "Bob's notes.txt"),
        ("2020\u20132026/plan.txt", "2020-2026/plan.txt"),
    ],
)
async def test_a_file_is_found_by_its_name_as_models_write_it(desk: Desk, name: str, written: str) -> None:
    path = desk.workspace / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("one\n")
    assert await desk.use("read_file", path=written) == "one"
    await desk.use("edit_file", path=written, old="one", new="two")
    assert [each.read_text() for each in desk.workspace.rglob("*.txt")] == ["two\n"]
    assert (await desk.use("write_file", path=written, content="three\n")).startswith("Replaced")
    assert [each.read_text() for each in desk.workspace.rglob("*.txt")] == ["three\n"]


async def test_a_name_that_two_files_may_have_is_neither(desk: Desk) -> None:
    (desk.workspace / "a\u00a0b.txt").write_text("one")
    (desk.workspace / "a\u202fb.txt").write_text("two")
    with pytest.raises(ToolError, match=r"There is no file a b\.txt"):
        await desk.use("read_file", path="a b.txt")
    (desk.workspace / "a b.txt").write_text("three")
    assert await desk.use("read_file", path="a b.txt") == "three"


async def test_a_name_spelled_otherwise_does_not_lead_out_of_the_workspace(desk: Desk) -> None:
    (desk.workspace / "o\u00a0ut").symlink_to(desk.workspace.parent)
    with pytest.raises(ToolError, match=r"outside the workspace|There is no file"):
        await desk.use("read_file", path="o ut/secret.txt")

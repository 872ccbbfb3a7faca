"""The file tools, on a real folder."""

import json
import os
from pathlib import Path

import pytest

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


async def test_text_in_an_older_encoding_is_read_but_not_edited(desk: Desk) -> None:
    (desk.workspace / "old.txt").write_bytes("für".encode("latin-1"))
    assert await desk.use("read_file", path="old.txt") == "f\ufffdr"
    with pytest.raises(ToolError, match="not UTF-8"):
        await desk.use("edit_file", path="old.txt", old="f", new="g")


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


async def test_an_edit_keeps_the_line_ends_of_the_file(desk: Desk) -> None:
    (desk.workspace / "dos.txt").write_bytes(b"one\r\ntwo\r\nthree\r\n")
    await desk.use("edit_file", path="dos.txt", old="one\ntwo", new="1\n2")
    assert (desk.workspace / "dos.txt").read_bytes() == b"1\r\n2\r\nthree\r\n"


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

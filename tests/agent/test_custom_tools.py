"""Own tools as they are loaded: which files have some, which version is used, and where a fault is."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from agent.custom_tools import MAX_FILE_SIZE, CustomTools, Loading, ToolSource, tool_files
from agent.python_objects import LoadError, load_file, load_object

TOOL = '''\
from interject import ToolContext, tool


@tool(effect="read")
def look(context: ToolContext) -> str:
    """Looks."""
    return "seen"
'''

FILES = {
    "it imports the decorator": (TOOL, True),
    "it imports the package": (TOOL.replace("from interject import ToolContext, tool", "import interject"), True),
    "it calls it by the package": ("import interject\n@interject.tool(effect='read')\ndef a(c): ...\n", True),
    "it imports it in a branch": (
        "if True:\n    from interject import tool\n@tool(effect='read')\ndef a(c): ...\n",
        True,
    ),
    "it imports a part": (TOOL.replace("from interject", "from interject.public"), True),
    "it has a syntax error": (TOOL.replace("-> str:", "-> str"), True),
    "it is async": (TOOL.replace("def look", "async def look"), True),
    "it imports another": (TOOL.replace("from interject", "from langchain"), False),
    "it has a like name": (TOOL.replace("from interject", "from interjection"), False),
    "it has no tool": ("from interject import tool\n", False),
    "it quotes one": (f"import interject\nEXAMPLE = '''\n{TOOL.replace(chr(34) * 3, '')}'''\n", False),
    "it has only a method": (
        "from interject import tool\nclass A:\n    @tool(effect='read')\n    def a(s, c): ...\n",
        False,
    ),
    "it is empty": ("", False),
    "it is very large": (TOOL + "#" * MAX_FILE_SIZE, False),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_has_tools_if(tmp_path: Path, kind: str) -> None:
    code, has = FILES[kind]
    (tmp_path / "file.py").write_text(code)
    assert bool(tool_files(tmp_path)) is has


def test_a_folder_that_is_missing_has_no_files(tmp_path: Path) -> None:
    assert tool_files(tmp_path / "none") == []


def loaded(folder: Path, *sources: ToolSource, reserved: tuple[str, ...] = ()) -> Loading:
    return CustomTools(sources, folder, base=folder, reserved=reserved).load()


def shown(loading: Loading) -> list[str]:
    return [f"{each.tool.name} {each.origin}" for each in loading.tools]


def test_a_section_gives_a_tool_its_name_and_the_folder_does_not_have_it_again(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(TOOL)
    found = loaded(tmp_path, ToolSource("see", f"{tmp_path}/a.py:look"))
    assert shown(found) == ["see a.py:4"]
    assert not found.faults


def test_a_second_name_for_a_tool_is_no_second_tool(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(TOOL)
    (tmp_path / "b.py").write_text(f"{TOOL.replace('look', 'peek')}\nother = peek\n")
    assert shown(loaded(tmp_path)) == ["look a.py:4", "peek b.py:4"]


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (("look", "a.py:gone"), "a.py: AttributeError: it has no gone"),
        (("look", "a.py:ToolContext"), "a.py:ToolContext: it is a type, not a function with @tool"),
        (("look", "none.py:look"), "none.py: FileNotFoundError"),
        (("look", "no_such_module_here:look"), "no_such_module_here:look: ModuleNotFoundError"),
        (("look", "nobody"), "nobody: neither module:name nor an entry point of interject.tools"),
        (("a b", "a.py:look"), "a.py:4: The tool 'a b' cannot have this name"),
        (("shell", "a.py:look"), "a.py:4: shell is the name of a built-in tool"),
    ],
)
def test_what_a_section_names_wrongly_is_said_with_its_place(
    tmp_path: Path, source: tuple[str, str], named: str
) -> None:
    (tmp_path / "a.py").write_text(TOOL)
    (tmp_path / "b.py").write_text(TOOL.replace("look", "peek"))
    name, path = source
    path = f"{tmp_path}/{path}" if ".py:" in path else path
    found = loaded(tmp_path, ToolSource(name, path), reserved=("shell",))
    (fault,) = found.faults
    assert str(fault).startswith(named)
    assert "peek b.py:4" in shown(found)


def test_options_of_a_tool_without_settings_are_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(TOOL)
    (fault,) = loaded(tmp_path, ToolSource("look", f"{tmp_path}/a.py:look", {"colour": "red"})).faults
    assert str(fault) == "[tools.look]: the tool has no setting colour"


@pytest.mark.parametrize("error", ["ValueError('no')", "KeyError('no')", "RuntimeError('no')"])
def test_settings_that_cannot_be_checked_cost_their_tool_only(tmp_path: Path, error: str) -> None:
    (tmp_path / "a.py").write_text(
        "from pydantic import BaseModel, field_validator\n"
        "class Own(BaseModel):\n"
        "    size: int\n"
        "    @field_validator('size')\n"
        "    @classmethod\n"
        f"    def check(cls, value): raise {error}\n"
        + TOOL.replace('effect="read"', 'effect="read", settings=Own')
        + TOOL.partition("\n\n\n")[2].replace("look", "peek")
    )
    found = loaded(tmp_path, ToolSource("look", f"{tmp_path}/a.py:look", {"size": 3}))
    (fault,) = found.faults
    assert fault.place == "[tools.look]"
    assert "peek" in " ".join(shown(found))


def test_the_last_good_version_is_kept_until_there_is_a_new_one(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    tools = CustomTools((), tmp_path, base=tmp_path)
    assert list(tools) == []
    file.write_text(TOOL)
    tools.load()
    (first,) = tools
    file.write_text(TOOL.replace("-> str:", "-> str"))
    (fault,) = tools.load().faults
    assert (fault.place, fault.kept) == ("a.py:5", True)
    assert list(tools) == [first]
    file.write_text(TOOL.replace("Looks.", "Looks closely."))
    assert tools.load().faults == ()
    assert [each.description for each in tools] == ["Looks closely."]
    file.unlink()
    assert tools.load().removed == ("look",)
    assert list(tools) == []


def test_a_known_secret_is_not_in_what_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(f"{TOOL}\nraise ValueError('a-secret')\n")
    tools = CustomTools((), tmp_path, mask=lambda text: text.replace("a-secret", "[hidden]"))
    (fault,) = tools.load().faults
    assert fault.wrong == "ValueError: [hidden]"


def test_a_file_is_a_module_of_its_own_and_what_it_was_if_it_breaks(tmp_path: Path) -> None:
    file = tmp_path / "json.py"
    file.write_text("from dataclasses import dataclass\n@dataclass\nclass A:\n    x: 'int' = 1\n")
    first = load_file(file)
    assert first.A().x == 1
    assert sys.modules["json"] is not first
    file.write_text("1 / 0")
    with pytest.raises(LoadError) as failed:
        load_file(file)
    assert (failed.value.file, failed.value.line) == (file, 1)
    assert sys.modules[first.__name__] is first


def test_an_error_in_a_called_library_is_placed_in_the_file_that_called_it(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("import json\n\n\ndef read(text):\n    return json.loads(text)\n\n\nread('no')\n")
    with pytest.raises(LoadError, match="JSONDecodeError") as failed:
        load_object(f"{file}:anything", "interject.tools")
    assert failed.value.line == 5


ENDLESS = {
    "it loops": ("while True:\n    pass\n", 9),
    "it waits": ("import time\n\ntime.sleep(3600)\n", 11),
    "it loops in a function": ("def spin():\n    while True:\n        x = 1\n\n\nspin()\n", 11),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_file_that_does_not_end_costs_itself_only_and_its_line_is_named(tmp_path: Path, kind: str) -> None:
    code, line = ENDLESS[kind]
    (tmp_path / "a.py").write_text(TOOL + code)
    (tmp_path / "b.py").write_text(TOOL.replace("look", "peek"))
    tools = CustomTools((), tmp_path, base=tmp_path, load_time=0.3)
    loading = tools.load()
    assert shown(loading) == ["peek b.py:4"]
    (fault,) = loading.faults
    assert int(fault.place.removeprefix("a.py:")) in range(line - 2, line + 1)
    assert "did not end within 0.3 seconds" in fault.wrong
    assert "the thread 'loading a.py' is abandoned" in fault.wrong


def test_a_loop_that_was_abandoned_is_stopped_and_a_good_version_stays(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text(TOOL)
    tools = CustomTools((), tmp_path, base=tmp_path, load_time=0.3)
    tools.load()
    file.write_text(f"{TOOL}while True:\n    pass\n")
    loading = tools.load()
    assert [fault.kept for fault in loading.faults] == [True]
    assert shown(loading) == ["look a.py:4"]
    for thread in threading.enumerate():
        if thread.name == f"loading {file}":
            thread.join(10)
            assert not thread.is_alive()


@pytest.mark.parametrize(
    "code", ["import sys\nsys.exit(3)\n", "raise KeyError('a')\n", "print('x' * 10_000_000)\n1/0\n"]
)
def test_a_file_that_ends_the_process_or_says_much_costs_itself_only(tmp_path: Path, code: str) -> None:
    (tmp_path / "a.py").write_text(TOOL + code)
    (tmp_path / "b.py").write_text(TOOL.replace("look", "peek"))
    loading = loaded(tmp_path)
    assert shown(loading) == ["peek b.py:4"]
    assert len(loading.faults) == 1

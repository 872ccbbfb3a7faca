"""Skills from folders: what is a valid one, what is wrong with the others, and what the tool reads of them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from agent.skills.skill import MAX_HEAD, InvalidSkill, parse_skill
from agent.skills.skills import MAX_SKILL_BYTES, SkillReader, Skills
from agent.skills.tool import MAX_LISTED, MAX_NOTE, command_note, listing, skill_tool
from agent.testing import MemoryMedia
from agent.tool import ToolContext, ToolError

EXAMPLES = Path(__file__).parents[2] / "examples" / "skills"
HEAD = "---\nname: good\ndescription: Does good.\n---\nBe good.\n"


def write(folder: Path, name: str, text: str | bytes = "") -> Path:
    """A skill in its folder; without a text a valid one."""
    made = folder / name
    made.mkdir(parents=True)
    text = text or f"---\nname: {name}\ndescription: Does {name}.\n---\nHow to do {name}.\n"
    (made / "SKILL.md").write_bytes(text if isinstance(text, bytes) else text.encode())
    return made


async def call(skills: Skills, *, with_shell: bool = False, **arguments: str) -> str:
    """What the tool answers."""

    async def ignore(text: str) -> None:
        pass

    context = ToolContext(Path("/nowhere"), MemoryMedia(), ignore)
    return (await skill_tool(skills, with_shell=with_shell).call(context, json.dumps(arguments))).text


# The format


def test_a_skill_has_all_fields_of_the_format() -> None:
    skill = parse_skill(
        "---\nname: pdf-forms\ndescription: >\n  Fills forms.\n  In PDFs.\nlicense: Apache-2.0\n"
        'compatibility: Needs pdftk.\nmetadata:\n  author: Ann\n  version: "1.0"\n'
        "allowed-tools: Bash(pdftk:*) Read\nother: [1, {a: b}]\n---\n\n# How\n\n---\nEnd\n\n",
        "pdf-forms",
    )
    assert (skill.name, skill.description) == ("pdf-forms", "Fills forms. In PDFs.")
    assert (skill.license, skill.compatibility) == ("Apache-2.0", "Needs pdftk.")
    assert skill.metadata == {"author": "Ann", "version": "1.0"}
    assert skill.allowed_tools == ("Bash(pdftk:*)", "Read")
    assert skill.body == "# How\n\n---\nEnd"


@pytest.mark.parametrize(
    ("text", "faults"),
    {
        "no head": ("Be good.", [(1, "must begin with a line ---")]),
        "nothing": ("", [(1, "must begin")]),
        "no end": ("---\nname: good\n", [(1, "second line --- is missing")]),
        "no YAML": ("---\nname: good\ndescription: Use when: asked\n---\n", [(3, "not YAML: .*colon in quotes")]),
        "a tab": ("---\nname: good\n\tdescription: x\n---\n", [(3, "not YAML")]),
        "a control character": ("---\nname: good\ndescription: a\x01b\n---\n", [(3, "control character")]),
        "a list": ("---\n- name\n---\n", [(2, "must be fields")]),
        "nothing in it": ("---\n---\nBe good.", [(2, "must be fields")]),
        "no name": ("---\ndescription: x\n---\n", [(1, "name is missing")]),
        "an empty description": ("---\nname: good\ndescription:\n---\n", [(3, "description is empty")]),
        "a capital": ("---\nname: Good\ndescription: x\n---\n", [(2, "only a-z")]),
        "two hyphens": ("---\nname: go--od\ndescription: x\n---\n", [(2, "only a-z")]),
        "another folder": ("---\nname: better\ndescription: x\n---\n", [(2, "the folder is named good")]),
        "a long name": (
            f"---\nname: {'a' * 65}\ndescription: x\n---\n",
            [(2, "65 characters"), (2, "folder is named")],
        ),
        "a long description": (f"---\nname: good\ndescription: {'a' * 1025}\n---\n", [(3, "1,025 characters")]),
        "a long compatibility": (
            HEAD.replace("---\nBe", f"compatibility: {'a' * 501}\n---\nBe"),
            [(4, "501 characters")],
        ),
        "a name twice": (HEAD.replace("---\nBe", "name: good\n---\nBe"), [(4, "given twice")]),
        "a description of parts": ("---\nname: good\ndescription: [a, b]\n---\n", [(3, "must be a text")]),
        "deep metadata": (HEAD.replace("---\nBe", "metadata: {a: {b: c}}\n---\nBe"), [(4, "names with a text")]),
        "deep tools": (HEAD.replace("---\nBe", "allowed-tools: {a: b}\n---\nBe"), [(4, "words")]),
        "two faults": ("---\nname: Good\ndescription: ''\n---\n", [(2, "only a-z"), (3, "is empty")]),
        "a deep head": (f"---\nname: {'[' * 5000}\n---\n", [(2, "nested too deeply")]),
        "a bomb": ("---\na: &a [x, x]\nb: &b [*a, *a]\nname: *b\ndescription: x\n---\n", [(4, "must be a text")]),
        "a long head": (f"---\nname: {'a' * MAX_HEAD}\n---\n", [(2, "characters; the limit is")]),
    }.values(),
)
def test_an_invalid_one_says_in_which_line_what_is_wrong(text: str, faults: list[tuple[int, str]]) -> None:
    with pytest.raises(InvalidSkill) as refused:
        parse_skill(text, "good")
    assert [fault.line for fault in refused.value.faults] == [line for line, _ in faults]
    for fault, (_, wanted) in zip(refused.value.faults, faults, strict=True):
        assert re.search(wanted, fault.text), fault.text


# Folders


def test_the_examples_are_valid() -> None:
    skills = SkillReader().read([EXAMPLES])
    assert [each.skill.name for each in skills.found] == ["meeting-notes", "release-notes"]
    assert not skills.invalid


def test_invalid_skills_are_named_and_cost_nobody_else(tmp_path: Path) -> None:
    place = tmp_path / "skills"
    write(place, "good")
    write(place, "bad", "---\nname: bad\n---\n")
    write(place, "latin", "---\nname: latin\ndescription: caf\xe9\n---\n".encode("latin-1"))
    write(place, "long", HEAD + "x" * MAX_SKILL_BYTES)
    (place / "empty").mkdir()
    (place / ".hidden").mkdir()
    (place / "README.md").touch()
    (tmp_path / "outside").mkdir()
    write(tmp_path / "outside", "away")
    (place / "away").symlink_to(tmp_path / "outside" / "away")
    (place / "loop").mkdir()
    (place / "loop" / "SKILL.md").symlink_to("SKILL.md")
    write(tmp_path / "more", "good")

    skills = SkillReader().read([place, tmp_path / "more", tmp_path / "gone"])
    assert [each.skill.name for each in skills.found] == ["good"]
    shown = [str(each).replace(f"{tmp_path}/", "") for each in skills.invalid]
    assert shown[:3] == [
        "skills/away/SKILL.md: a link leads out of the folder that is searched for skills",
        "skills/bad/SKILL.md:1: description is missing in its head",
        "skills/empty/SKILL.md: there is no such file, so this folder is no skill",
    ]
    assert shown[3] == "skills/latin/SKILL.md:3: it is not UTF-8 text"
    assert shown[4].startswith("skills/long/SKILL.md: it has 256,")
    assert shown[5].startswith("skills/loop/SKILL.md: ")
    assert shown[6:] == [
        "more/good/SKILL.md: there is a skill of this name already, in skills",
        "gone: No such file or directory",
    ]
    assert str(tmp_path) not in skills.invalid[1].short


def test_a_place_may_be_the_folder_of_one_skill(tmp_path: Path) -> None:
    reader = SkillReader()
    made = write(tmp_path, "good")
    assert [each.skill.name for each in reader.read([made]).found] == ["good"]
    found = reader.find([made], "good")
    assert found
    assert found.skill.body == "How to do good."


@pytest.mark.parametrize("name", ["..", "../good", "good/x", "Good", "", "none"])
def test_nothing_else_is_found_by_name(tmp_path: Path, name: str) -> None:
    write(tmp_path / "skills", "good")
    write(tmp_path, "secret")
    assert SkillReader().find([tmp_path / "skills"], name) is None


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    reader = SkillReader()
    made = write(tmp_path, "good")
    assert reader.read([tmp_path]).found[0].skill.description == "Does good."
    (made / "SKILL.md").write_text(HEAD.replace("Does good", "Does better"))
    write(tmp_path, "new")
    assert [each.skill.description for each in reader.read([tmp_path]).found] == ["Does better.", "Does new."]
    (made / "SKILL.md").unlink()
    assert [each.skill.name for each in reader.read([tmp_path]).found] == ["new"]


def test_skills_of_a_workspace_come_after_the_operators_and_stay_in_it(tmp_path: Path) -> None:
    write(tmp_path / "skills", "good")
    workspace = tmp_path / "workspace"
    write(workspace / ".agents" / "skills", "good")
    write(workspace / ".agents" / "skills", "own")
    skills = SkillReader().read([tmp_path / "skills"], workspace)
    assert [(each.skill.name, each.is_foreign) for each in skills.found] == [("good", False), ("own", True)]
    assert "own (from the workspace" in listing(skills)

    away = tmp_path / "other"
    (away / ".agents").mkdir(parents=True)
    (away / ".agents" / "skills").symlink_to(tmp_path / "skills")
    skills = SkillReader().read([], away)
    assert not skills.found
    assert "leads out" in str(skills.invalid[0])


# The tool


def test_the_list_in_the_instructions_is_bounded(tmp_path: Path) -> None:
    for number in range(40):
        write(tmp_path, f"s{number}", f"---\nname: s{number}\ndescription: {'long ' * 200}\n---\n")
    skills = SkillReader().read([tmp_path])
    text = listing(skills)
    assert len(text) < MAX_LISTED + 500
    shown = text.count("long long") and len([line for line in text.splitlines() if line.startswith("- s")])
    assert f"and {40 - shown} more, which `skill` without a name lists" in text


async def test_the_tool_lists_all_and_reads_one_and_its_files(tmp_path: Path) -> None:
    for number in range(40):
        write(tmp_path, f"s{number}", f"---\nname: s{number}\ndescription: {'long ' * 200}\n---\nBody {number}")
    (tmp_path / "s7" / "more").mkdir()
    (tmp_path / "s7" / "more" / "table.md").write_text("a | b")
    skills = SkillReader().read([tmp_path])
    listed = (await call(skills)).splitlines()
    assert len(listed) == 40
    assert max(map(len, listed)) < 600
    read = await call(skills, name="s7")
    assert "Body 7" in read
    assert "more/table.md" in read
    assert str(tmp_path) not in read
    assert f"for shell commands: {tmp_path / 's7'}" in await call(skills, with_shell=True, name="s7")
    assert await call(skills, name="s7", file="more/table.md") == "a | b"


def test_a_command_brings_no_more_than_a_result_would(tmp_path: Path) -> None:
    write(tmp_path, "good", HEAD + "x" * 200_000)
    (found,) = SkillReader().read([tmp_path]).found
    note = command_note(found)
    assert note.startswith("The message begins with /good: follow the skill good.")
    assert len(note) < MAX_NOTE + 200
    assert re.search(r'\[Cut here: skill\("good"\) reads all 200,\d{3} characters\]$', note)


@pytest.mark.parametrize(
    ("file", "said"),
    {
        "../other/SKILL.md": "outside the folder of the skill",
        "/etc/passwd": "outside the folder of the skill",
        "link.md": "outside the folder of the skill",
        "folder/hosts": "outside the folder of the skill",
        "none.md": "There is no file none.md. Files: ",
        "pipe": "There is no file pipe",
        "logo.png": "is a binary file (image/png, 70 bytes)",
        "loop": "loop",
        "big.txt": "1,000,001 bytes",
        "a\0b": "not a valid path",
    }.items(),
)
async def test_other_files_are_not_read(tmp_path: Path, file: str, said: str) -> None:
    made = write(tmp_path, "good")
    write(tmp_path, "other")
    (made / "link.md").symlink_to(tmp_path / "other" / "SKILL.md")
    (made / "folder").symlink_to("/etc")
    (made / "loop").symlink_to("loop")
    os.mkfifo(made / "pipe")
    (made / "logo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 62)
    (made / "big.txt").write_text("x" * 1_000_001)
    with pytest.raises(ToolError, match=said.replace("(", r"\(").replace(")", r"\)")):
        await call(SkillReader().read([tmp_path]), name="good", file=file)


async def test_an_unknown_skill_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    write(tmp_path, "good")
    with pytest.raises(ToolError, match=r"There is no skill better\. Skills: good"):
        await call(SkillReader().read([tmp_path]), name="better")

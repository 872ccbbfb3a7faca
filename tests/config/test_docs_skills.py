"""The page of the skills, held to the code."""

import re
from pathlib import Path

from agent.context.context_files import MAX_BYTES
from agent.skills.skill import MAX_COMPATIBILITY, MAX_DESCRIPTION, MAX_NAME, parse_skill
from agent.skills.skills import MAX_SKILL_BYTES, SkillReader
from agent.skills.tool import MAX_FILE_BYTES
from channels.discord import limits as discord
from channels.telegram import limits as telegram
from tests.config.conftest import Operator
from tests.config.test_docs import examples, page, section


def test_its_settings_are_valid(operator: Operator) -> None:
    (operator.file.parent / "skills").mkdir()
    first, workspace, files = (operator.settings(example) for example in examples(page("skills")))
    assert first.skills.paths == [operator.file.parent / "skills"]
    assert workspace.skills.workspace
    assert files.agent.context_files == [Path("AGENTS.md"), Path("persona.md")]


def test_its_first_skill_is_valid(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```markdown\n(.*?)^```", page("skills"), re.MULTILINE | re.DOTALL)
    assert parse_skill(text, "greeting").description.startswith("Welcomes")
    (tmp_path / "greeting").mkdir()
    (tmp_path / "greeting" / "SKILL.md").write_text(text)
    assert not SkillReader().read([tmp_path]).invalid


def test_it_names_the_limits() -> None:
    text = section(page("skills"), "The format")
    for limit in (
        f"up to {MAX_NAME} of",
        f"up to {MAX_DESCRIPTION:,} characters",
        f"up to {MAX_COMPATIBILITY} characters",
    ):
        assert limit in text
    assert f"up to {MAX_SKILL_BYTES // 1000} kB" in text
    assert f"up to {MAX_FILE_BYTES // 1_000_000} MB" in text
    assert f"Up to {MAX_BYTES // 1000} kB" in page("skills")
    for limits in (telegram, discord):
        assert f"{limits.COMMANDS} commands with names of up to {limits.COMMAND_NAME}" in page("skills")


def test_a_folder_of_skills_is_one_of_its_own(operator: Operator) -> None:
    home = operator.file.parent / "data"
    for folder in (operator.file.parent, home / "workspace" / "skills"):
        folder.mkdir(parents=True, exist_ok=True)
    assert "contains the settings file" in operator.refused('[skills]\npaths = ["."]\n')[0]
    inside = '[agent]\nworkspace = "data/workspace"\n[skills]\npaths = ["data/workspace/skills"]\n'
    assert "contain one another" in operator.refused(inside)[0]
    assert "no such folder" in operator.refused('[skills]\npaths = ["gone"]\n')[0]
    assert "already listed" in operator.refused('[skills]\npaths = ["gone", "gone"]\n')[0]

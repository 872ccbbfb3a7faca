"""Checks of skills: they are read as `interject run` reads them."""

from __future__ import annotations

from agent.skills.skills import SkillReader
from config.settings import Settings
from gateway.cli.checks.result import CheckResult


def check_skills(settings: Settings) -> list[CheckResult]:
    """Each that cannot be used, and the names of the others; nothing without a place for them."""
    if not settings.skills.paths:
        return []
    skills = SkillReader().read(settings.skills.paths)
    names = ", ".join(each.skill.name for each in skills.found) or "none"
    return [
        CheckResult("skills", True, names),
        *(CheckResult("skill", False, str(invalid)) for invalid in skills.invalid),
    ]

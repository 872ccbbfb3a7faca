"""Settings of skills: folders with instructions that the agent reads on demand."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from config.section import PathText, Section, refuse_entries


class SkillSettings(Section):
    """Skills: folders with a SKILL.md, instructions that the agent reads when they fit the task."""

    paths: list[PathText] = Field(
        default_factory=list,
        max_length=50,
        description="Folders of skills, or of one skill, relative to this file. Changes in them take effect with the "
        "next message. Default: none.",
        examples=[["skills"]],
    )
    workspace: bool = Field(
        default=False,
        description="Whether the agent also uses the skills in `.agents/skills` of its workspace. People and the agent "
        "write those, not the operator.",
    )

    @field_validator("paths")
    @classmethod
    def _no_path_twice(cls, paths: list[Path]) -> list[Path]:
        twice = [index for index, path in enumerate(paths) if path in paths[:index]]
        refuse_entries(twice, "is already listed")
        return paths

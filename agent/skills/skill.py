"""Parses a SKILL.md of the open agentskills format; pure. The format: https://agentskills.io/specification"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import takewhile

FILE = "SKILL.md"

MAX_NAME = 64
MAX_DESCRIPTION = 1024
MAX_COMPATIBILITY = 500
"""Characters, by the format."""

MAX_HEAD = 16_000
"""Characters between the two lines `---`."""

FIRST_LINE = 2
"""Of the head, in the file."""

_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Skill:
    """`body` is the text after the head. `allowed_tools` are the tools that its author would have run without approval;
    approvals are the operator's, so it is only information."""

    name: str
    description: str
    body: str
    license: str = ""
    compatibility: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    allowed_tools: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SkillFault:
    """What is wrong, in which line of the file (from 1)."""

    line: int
    text: str


class InvalidSkill(Exception):
    """`faults` are all that were found, in the order of the lines."""

    def __init__(self, *faults: SkillFault) -> None:
        self.faults = tuple(sorted(faults, key=lambda fault: fault.line))
        super().__init__("; ".join(f"line {fault.line}: {fault.text}" for fault in self.faults))


def is_name(name: str) -> bool:
    """Whether a skill may have this name."""
    return len(name) <= MAX_NAME and _NAME.fullmatch(name) is not None


def parse_skill(text: str, folder: str) -> Skill:
    """The skill in the text of a SKILL.md; `folder` is the name of its folder, which the skill's name must be.

    Fields that the format does not have are ignored. Raises `InvalidSkill`.
    """
    head, body = _parts(text)
    fields = _Fields(*_read_head(head))
    skill = Skill(
        name=fields.name(folder),
        description=fields.text("description", MAX_DESCRIPTION, required=True),
        body=body,
        license=fields.text("license", MAX_DESCRIPTION),
        compatibility=fields.text("compatibility", MAX_COMPATIBILITY),
        metadata=fields.texts("metadata"),
        allowed_tools=fields.words("allowed-tools"),
    )
    if fields.faults:
        raise InvalidSkill(*fields.faults)
    return skill


def _parts(text: str) -> tuple[str, str]:
    """The head, and the body without blank lines around it."""
    first, *rest = text.replace("\r\n", "\n").split("\n")
    if first.rstrip() != "---":
        raise InvalidSkill(SkillFault(1, "the file must begin with a line --- and its head (name and description)"))
    head = list(takewhile(lambda line: line.rstrip() != "---", rest))
    if len(head) == len(rest):
        raise InvalidSkill(SkillFault(1, "its head has no end: the second line --- is missing"))
    shown = "\n".join(head)
    if len(shown) > MAX_HEAD:
        raise InvalidSkill(SkillFault(2, f"its head has {len(shown):,} characters; the limit is {MAX_HEAD:,}"))
    return shown, "\n".join(rest[len(head) + 1 :]).strip()


Value = str | list[str] | dict[str, str] | None
"""Of a field: a text, a list of texts, or names with a text each; None for anything deeper."""


def _read_head(head: str) -> tuple[dict[str, tuple[int, Value]], list[SkillFault]]:
    """The fields with their lines, and the faults. No objects are made of the YAML: a scalar is a text, whatever it
    looks like."""
    # Imported where it is used: without skills it is not loaded.
    import yaml  # type: ignore[import-untyped]  # the package has no types

    try:
        node = yaml.compose(head, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = FIRST_LINE if error.problem_mark is None else error.problem_mark.line + FIRST_LINE
        hint = "; put a text that has a colon in quotes" if "mapping values" in str(error.problem) else ""
        raise InvalidSkill(SkillFault(line, f"its head is not YAML: {error.problem or error.context}{hint}")) from None
    except yaml.reader.ReaderError as error:
        line = head.count("\n", 0, error.position) + FIRST_LINE
        raise InvalidSkill(SkillFault(line, "its head has a control character")) from None
    except RecursionError:
        raise InvalidSkill(SkillFault(FIRST_LINE, "its head is nested too deeply")) from None
    if not isinstance(node, yaml.MappingNode):
        raise InvalidSkill(SkillFault(FIRST_LINE, "its head must be fields, like name: and description:"))

    def value(node: yaml.Node) -> Value:
        match node:
            case yaml.ScalarNode():
                return str(node.value)
            case yaml.SequenceNode() if all(isinstance(each, yaml.ScalarNode) for each in node.value):
                return [str(each.value) for each in node.value]
            case yaml.MappingNode() if all(isinstance(each, yaml.ScalarNode) for pair in node.value for each in pair):
                return {str(key.value): str(each.value) for key, each in node.value}
            case _:
                return None

    fields: dict[str, tuple[int, Value]] = {}
    faults: list[SkillFault] = []
    for key, inner in node.value:
        line, name = key.start_mark.line + FIRST_LINE, str(key.value)
        if name in fields:
            faults.append(SkillFault(line, f"{name} is given twice"))
        fields[name] = (line, value(inner))
    return fields, faults


class _Fields:
    """The fields of a head. What is wrong with those that are asked for is added to `faults`."""

    def __init__(self, fields: Mapping[str, tuple[int, Value]], faults: list[SkillFault]) -> None:
        self._fields = fields
        self.faults = faults

    def name(self, folder: str) -> str:
        name = self.text("name", MAX_NAME, required=True)
        if name and not _NAME.fullmatch(name):
            self._refuse("name", "name may have only a-z, 0-9 and single hyphens between them")
        elif name and name != folder:
            self._refuse("name", f"name is {name}, but the folder is named {folder}: they must be the same")
        return name

    def text(self, name: str, limit: int, *, required: bool = False) -> str:
        """ "" if it is missing, or wrong."""
        _, value = self._fields.get(name, (1, ""))
        if not isinstance(value, str):
            self._refuse(name, f"{name} must be a text")
            return ""
        text = value.strip()
        if required and not text:
            self._refuse(name, f"{name} is {'empty' if name in self._fields else 'missing in its head'}")
        if len(text) > limit:
            self._refuse(name, f"{name} has {len(text):,} characters; the limit is {limit:,}")
        return text

    def texts(self, name: str) -> Mapping[str, str]:
        _, value = self._fields.get(name, (1, ""))
        if isinstance(value, dict):
            return value
        if value != "":
            self._refuse(name, f"{name} must be names with a text each")
        return {}

    def words(self, name: str) -> tuple[str, ...]:
        """Words with blanks or commas between them, or a list of them."""
        match self._fields.get(name, (1, ""))[1]:
            case str(text):
                return tuple(text.replace(",", " ").split())
            case list(words):
                return tuple(words)
            case _:
                self._refuse(name, f"{name} must be words with blanks between them")
                return ()

    def _refuse(self, name: str, text: str) -> None:
        self.faults.append(SkillFault(self._fields.get(name, (1, ""))[0], text))

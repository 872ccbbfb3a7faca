"""The format: a file of scenarios becomes scenarios, each a list of steps. What steps mean is said in `steps`.

# Steering                                  what the file is about
> Words for the reader.
tools:                                      steps here begin every scenario of the file
    look(path) reads

## A message during a read cancels it       a scenario
also over http                              it is played through the real model clients too
ann: look at the file                       a step
model calls: look {"path": "a"}
screen:                                     a step with a block: what is indented under it
    Why did the …
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

OVER_HTTP = "also over http"


class NotReadable(Exception):
    """The file breaks the format; the message says where and how."""


@dataclass(frozen=True, slots=True)
class Step:
    """One line at the margin, `head`, and the lines indented under it, without their indentation."""

    line: int
    head: str
    block: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scenario:
    """`line` is that of its title. `steps` begin with those that the file gives to all its scenarios."""

    file: str
    line: int
    title: str
    steps: tuple[Step, ...]
    over_http: bool = False

    @property
    def name(self) -> str:
        return f"{Path(self.file).stem}: {self.title}"


def read(file: Path) -> tuple[Scenario, ...]:
    """The scenarios of a file, in its order. Raises `NotReadable`."""
    return read_text(file.read_text(encoding="utf-8"), file.name)


def read_text(text: str, file: str) -> tuple[Scenario, ...]:
    first, *rest = _sections(list(_lines(text)), file)
    given = tuple(step for step in first.steps if step.head != OVER_HTTP)
    scenarios = tuple(
        Scenario(
            file,
            section.line,
            section.title,
            (*given, *(step for step in section.steps if step.head != OVER_HTTP)),
            any(step.head == OVER_HTTP for step in section.steps),
        )
        for section in rest
    )
    first_lines: dict[str, int] = {}
    for scenario in scenarios:
        if first_lines.setdefault(scenario.title, scenario.line) != scenario.line:
            raise NotReadable(f"{file}:{scenario.line}: there are two scenarios with this title: {scenario.title}")
    return scenarios


@dataclass(slots=True)
class _Section:
    line: int
    title: str
    steps: list[Step]


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith(">"):
            yield number, line.rstrip()


def _sections(lines: Sequence[tuple[int, str]], file: str) -> list[_Section]:
    sections = [_Section(0, "", [])]
    for number, line in lines:
        if line.startswith("## "):
            sections.append(_Section(number, line.removeprefix("## ").strip(), []))
        elif line.startswith("# "):
            if len(sections) > 1 or sections[0].title:
                raise NotReadable(f"{file}:{number}: the file's own title stands once, at its beginning")
            sections[0].title = line.removeprefix("# ").strip()
        elif not line or line.startswith(" "):
            _indented(sections[-1], number, line, file)
        else:
            sections[-1].steps.append(Step(number, line))
    for section in sections:
        section.steps = [Step(step.line, step.head, _dedented(step.block)) for step in section.steps]
    return sections


def _indented(section: _Section, number: int, line: str, file: str) -> None:
    if section.steps:
        last = section.steps[-1]
        section.steps[-1] = Step(last.line, last.head, (*last.block, line))
    elif line:
        raise NotReadable(f"{file}:{number}: this line is indented, and there is no step above it: {line.strip()}")


def _dedented(block: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(textwrap.dedent("\n".join(block)).strip("\n").split("\n")) if any(block) else ()

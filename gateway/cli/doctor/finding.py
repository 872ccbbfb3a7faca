"""One finding: what is so, why it matters, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]

SIGNS: dict[Level, str] = {"ok": "ok", "warning": " !", "problem": "!!"}


@dataclass(frozen=True, slots=True)
class Finding:
    """`part` is what was looked at, such as "disk"; `what` the outcome. Without a reason to act, `why` and `do` are
    empty."""

    part: str
    level: Level
    what: str
    why: str = ""
    do: str = ""

"""The date, as a part of the instructions: a model does not know it."""

from __future__ import annotations

from datetime import datetime


def date_line(at: datetime) -> str:
    """The day of this moment in the time zone of the machine. Without the time of day, so that providers find the
    beginning of one day's requests in their caches."""
    local = at.astimezone()
    offset = f"{local:%z}"
    return f"Today is {local:%A, %Y-%m-%d} (time zone {local:%Z}, UTC{offset[:3]}:{offset[3:5]})."

"""Ages, as settings and command lines say them: `12h`, `30d`, `8w`, `1y`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator

from config.section import wrong

_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1), "y": timedelta(days=365)}
_AGE = re.compile(r"([1-9][0-9]{0,4})([hdwy])")


def parse_age(text: str) -> timedelta | None:
    """The age; None if the text is none."""
    found = _AGE.fullmatch(text)
    return None if found is None else int(found[1]) * _UNITS[found[2]]


def _is_age(text: str) -> str:
    if parse_age(text) is None:
        raise wrong("expected an age in hours, days, weeks or years, like 12h, 30d, 8w or 1y")
    return text


Age = Annotated[str, AfterValidator(_is_age)]

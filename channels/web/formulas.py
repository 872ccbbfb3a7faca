"""LaTeX to MathML, which browsers typeset."""

from __future__ import annotations

from functools import lru_cache

MAX_FORMULA = 4000
"""Characters; a longer formula stays as it is written."""

MAX_KEPT = 400
"""Characters of a formula whose MathML, up to a hundred times as long, is kept."""


def mathml(tex: str, *, display: bool) -> str | None:
    """The formula without its delimiters as a `math` element, on a line of its own if `display`. None if it is not
    LaTeX that the library knows. What is in it comes from a model: pages take the elements and attributes that they
    know.
    """
    if len(tex) > MAX_FORMULA:
        return None
    return _kept(tex, display=display) if len(tex) <= MAX_KEPT else _converted(tex, display=display)


@lru_cache(maxsize=1000)
def _kept(tex: str, *, display: bool) -> str | None:
    return _converted(tex, display=display)


def _converted(tex: str, *, display: bool) -> str | None:
    # Loading its tables takes a fifth of a second.
    from latex2mathml.converter import convert

    try:
        return convert(tex, display="block" if display else "inline")
    except Exception:  # noqa: BLE001  # an edge: its parser raises many kinds of errors for what models write
        return None

"""What a person's reaction on a question says, where reactions answer questions."""

from __future__ import annotations

import re

_YES = frozenset("✅✔👍👌")
_NO = frozenset("❌✖👎")
_VARIANTS = re.compile("[\ufe0f\U0001f3fb-\U0001f3ff]")
"""Variation selectors and skin tones."""


def answer_of(emoji: str) -> str | None:
    """ "yes", "no" or the number of an option, from 1 to 9; None: it answers nothing."""
    plain = _VARIANTS.sub("", emoji)
    if plain in _YES:
        return "yes"
    if plain in _NO:
        return "no"
    # A keycap is its digit and an enclosing mark.
    return plain[0] if len(plain) == 2 and plain[0] in "123456789" and plain[1] == "\u20e3" else None

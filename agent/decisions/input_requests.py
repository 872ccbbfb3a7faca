"""Requests of running calls for input: what answers them, and which one is open."""

from __future__ import annotations

import re
from collections.abc import Iterable

from agent.log import InputRequested

DECLINE, CANCEL = "Decline", "Cancel"
"""Options of every request: the person says no, or goes on without saying anything."""

MAX_ANSWER = 4000
"""Characters of an answer."""

_NUMBER = re.compile(r"[+-]?[\d.,\s]*\d[\d.,]*(?:e[+-]?\d+)?|\S+", re.IGNORECASE)
"""A number, or one word that may be meant as one."""


def is_answer(request: InputRequested, text: str) -> bool:
    """Whether what the person says answers the request. Any other message is for the turn."""
    text = text.strip()
    if not text or len(text) > MAX_ANSWER:
        return False
    if chosen_option(request.options, text) is not None:
        return True
    return request.takes == "text" or (request.takes == "number" and _NUMBER.fullmatch(text) is not None)


def chosen_option(options: Iterable[str], text: str) -> str | None:
    """The option that the person has pressed, or typed in letters of any case."""
    said = text.strip().casefold()
    return next((option for option in options if option.casefold() == said), None)

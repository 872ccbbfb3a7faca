"""Stops in people's own words: whether a short message asks for nothing but the end of the running task."""

from __future__ import annotations

from itertools import groupby

from gateway.store.decision_words import plain_words

_STOP = (
    *("stop", "stop it", "stop that", "stop this", "stop now", "stop please", "please stop", "stop everything"),
    *("stop the task", "stop working", "cancel", "cancel it", "cancel that", "cancel this", "abort", "halt"),
    *("stopp", "bitte stoppen", "aufhören", "hör auf", "hör bitte auf", "abbrechen", "bitte abbrechen", "brich ab"),
    *("arrête", "arrête ça", "arrêtez", "arrête-toi", "annule", "annuler"),
    *("para", "detente", "basta", "cancela", "cancelar"),
)
_SIGNS = frozenset({"🛑", "✋"})


def asks_to_stop(text: str) -> bool:
    """Whether the whole message is a known phrase, perhaps repeated: what follows it would be for the agent to read."""
    return text.strip().rstrip("\N{VARIATION SELECTOR-16}") in _SIGNS or _once(plain_words(text)) in _PHRASES


def _once(words: str) -> str:
    """A word that is repeated ("stop stop stop") counts once."""
    return " ".join(word for word, _ in groupby(words.split()))


_PHRASES = frozenset(map(plain_words, _STOP))

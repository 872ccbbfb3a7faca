"""Verdicts in people's own words: what a short message decides about an open question, if it decides anything."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from agent.log import ApprovalDecision, Subject

_ALLOW = (
    *("y", "yes", "yes please", "yep", "yeah", "ok", "okay", "sure", "allow", "allow it", "allow once", "approve"),
    *("approved", "go ahead", "go on", "👍", "✅"),
    *("ja", "ja bitte", "erlauben", "erlaubt", "einmal erlauben", "in ordnung", "einverstanden"),
    *("oui", "oui merci", "d'accord", "autoriser", "autorise", "autoriser une fois", "vas-y", "allez-y"),
    *("sí", "vale", "permitir", "permite", "permitir una vez", "de acuerdo", "adelante"),
)
_ALWAYS = (
    *("always", "allow always", "always allow", "yes always", "allow for this conversation"),
    *("immer", "immer erlauben", "ja immer", "für diese unterhaltung erlauben", "für dieses gespräch erlauben"),
    *("toujours", "toujours autoriser", "oui toujours", "autoriser pour cette conversation"),
    *("siempre", "permitir siempre", "sí siempre", "permitir en esta conversación", "permitir para esta conversación"),
)
_DENY = (
    *("n", "no", "no thanks", "no thank you", "nope", "deny", "denied", "refuse", "reject", "stop here", "👎"),
    *("nein", "nein danke", "ablehnen", "abgelehnt", "verweigern", "nicht erlauben"),
    *("non", "non merci", "refuser", "refusé", "ne pas autoriser"),
    *("no gracias", "denegar", "denegado", "rechazar", "no permitir"),
)

_BECAUSE = "because|since|weil|da|parce que|car|porque|pues"
_NOT_A_WORD = re.compile(r"[^\w'?👍👎✅]+")


@dataclass(frozen=True, slots=True)
class Spoken:
    """What was decided in words, and why if they said so."""

    decision: ApprovalDecision
    reason: str = ""


def verdict_of(text: str, about: Subject) -> Spoken | None:
    """What the message decides; None if it is anything else.

    All of it must be words that decide: what allows with a condition behind it allows nothing. Only a denial may be
    followed by its reason, behind a punctuation mark or a word like "because".
    """
    words = _plain(text)
    if words in _ALLOWING:
        return Spoken("allowed")
    if words in _ALLOWING_ALWAYS:
        return Spoken("allowed_always") if about == "call" else None
    if words in _DENYING:
        return Spoken("denied")
    found = _WITH_REASON.fullmatch(unicodedata.normalize("NFC", text).strip())
    return None if found is None else Spoken("denied", found["reason"].strip())


def _plain(text: str) -> str:
    """In small letters, without accents, punctuation and the colour of a hand."""
    letters = unicodedata.normalize("NFKD", text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").casefold())
    return _NOT_A_WORD.sub(" ", "".join(letter for letter in letters if not unicodedata.combining(letter))).strip()


_ALLOWING, _ALLOWING_ALWAYS, _DENYING = (frozenset(map(_plain, words)) for words in (_ALLOW, _ALWAYS, _DENY))

_WITH_REASON = re.compile(
    rf"(?:{'|'.join(re.escape(phrase) for phrase in sorted(_DENY, key=len, reverse=True))})"
    rf"(?:\s*[,;.!\u2013\u2014-]+\s+|\s*:\s*|\s*\n\s*|\s+(?=(?:{_BECAUSE})\b))(?P<reason>.+)",
    re.IGNORECASE | re.DOTALL,
)

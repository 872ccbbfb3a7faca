"""Decisions in people's own words: what a short message decides about an open approval request, if anything."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from agent.log import ApprovalDecision, ApprovalSubject

_ALLOW = (
    *("y", "yes", "yes please", "yep", "yeah", "ok", "okay", "sure", "allow", "allow it", "allow once", "approve"),
    *("approved", "go ahead", "go on", "continue", "👍", "✅"),
    *("ja", "ja bitte", "erlauben", "erlaubt", "einmal erlauben", "in ordnung", "einverstanden"),
    *("oui", "oui merci", "d'accord", "autoriser", "autorise", "autoriser une fois", "vas-y", "allez-y"),
    *("sí", "vale", "permitir", "permite", "permitir una vez", "de acuerdo", "adelante"),
)
_ALWAYS = (
    *("always", "allow always", "always allow", "yes always", "allow for this conversation"),
    *("allow for everyone here",),
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
class ParsedDecision:
    """A decision, with its reason if the message gives one."""

    decision: ApprovalDecision
    reason: str = ""


def parse_decision(text: str, about: ApprovalSubject) -> ParsedDecision | None:
    """The decision in the message; None if it is an ordinary message.

    The whole message must be a known phrase: an approval with a condition behind it approves nothing. Only a denial may
    be followed by its reason, after a punctuation mark or a word like "because".
    """
    words = plain_words(text)
    if words in _ALLOWING:
        return ParsedDecision("allowed")
    if words in _ALLOWING_ALWAYS:
        return ParsedDecision("allowed_always") if about == "call" else None
    if words in _DENYING:
        return ParsedDecision("denied")
    found = _WITH_REASON.fullmatch(unicodedata.normalize("NFC", text).strip())
    return None if found is None else ParsedDecision("denied", found["reason"].strip())


def plain_words(text: str) -> str:
    """In lower case, without accents, punctuation and skin tones of emoji."""
    letters = unicodedata.normalize("NFKD", text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").casefold())
    return _NOT_A_WORD.sub(" ", "".join(letter for letter in letters if not unicodedata.combining(letter))).strip()


_ALLOWING, _ALLOWING_ALWAYS, _DENYING = (frozenset(map(plain_words, words)) for words in (_ALLOW, _ALWAYS, _DENY))

_WITH_REASON = re.compile(
    rf"(?:{'|'.join(re.escape(phrase) for phrase in sorted(_DENY, key=len, reverse=True))})"
    rf"(?:\s*[,;.!\u2013\u2014-]+\s+|\s*:\s*|\s*\n\s*|\s+(?=(?:{_BECAUSE})\b))(?P<reason>.+)",
    re.IGNORECASE | re.DOTALL,
)

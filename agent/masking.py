"""Masking: secrets the gateway knows are taken out of whatever leaves it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

SHORTEST = 8
"""Characters of a secret. Shorter ones are ordinary words too often, and would be masked in the middle of those."""

MASKED = "[secret]"


class Mask:
    """Replaces each secret in a text by "[secret]", however it is written: as it is, quoted for a URL or in JSON, or in
    base64, also in the middle of something longer.

    A text without secrets is returned as the same object. Secrets shorter than 8 characters are ignored.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if len(secret) >= SHORTEST for form in _forms(secret)}
        # The longest first: a secret may begin like another.
        self._forms = tuple(sorted(forms, key=len, reverse=True))
        self._pattern = re.compile("|".join(map(re.escape, self._forms)))

    def __call__(self, text: str) -> str:
        # Nearly no text holds a secret, and looking for one form after the other is many times faster than the pattern.
        if not any(form in text for form in self._forms):
            return text
        return self._pattern.sub(MASKED, text)


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield quote(secret)
    yield quote(secret, safe="")
    yield quote_plus(secret)
    yield json.dumps(secret)[1:-1]
    data = secret.encode()
    yield base64.b64encode(data).decode()
    yield base64.urlsafe_b64encode(data).decode()
    for before in range(3):
        within = _within_base64(data, before)
        yield within
        yield within.replace("+", "-").replace("/", "_")


def _within_base64(data: bytes, before: int) -> str:
    """The characters that are always the same where the data stands that many bytes into a group of three."""
    encoded = base64.b64encode(b"\0" * before + data).decode()
    begin = -(-before * 8 // 6)
    end = (before + len(data)) * 8 // 6
    return encoded[begin:end]

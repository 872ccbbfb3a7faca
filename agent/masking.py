"""Masking: removes known secrets from everything that leaves the gateway."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import quote, quote_plus

MIN_SECRET_LENGTH = 8
"""Characters. Shorter secrets are often ordinary words, and would be masked within other text."""

MAX_CHANGED = 1000
"""Secrets that are kept of those that change, such as tokens that are refreshed every hour, beside the current ones."""

MASKED = "[secret]"

API_KEY = re.compile(r"ij_[0-9a-f]{10}_[A-Za-z0-9_-]{43}")
"""A key of our own HTTP API, of which only a hash is known."""


class Mask:
    """Replaces each secret in a text by "[secret]", whether it is plain, quoted for a URL or in JSON, or in base64,
    even within a longer encoded text.

    A text without secrets is returned as the same object. Secrets shorter than 8 characters are ignored.
    """

    def __init__(self, secrets: Iterable[str], *changing: Callable[[], Iterable[str]]) -> None:
        """`changing` give secrets that may be replaced at any time; the last ones that they gave before stay masked."""
        self._changing = changing
        self._fixed = frozenset(secrets)
        self._changed: dict[str, None] = {}
        """What the changing ones give, after what they gave before, the oldest first."""
        self._list_forms()

    def learn(self, secrets: Iterable[str]) -> None:
        """These are masked too. Those from before stay: texts from before may have them."""
        self._fixed |= frozenset(secrets)
        self._list_forms()

    def follow(self, changing: Callable[[], Iterable[str]]) -> None:
        """What this gives at any time is masked too."""
        self._changing = (*self._changing, changing)

    def _list_forms(self) -> None:
        secrets = (secret for secret in (*self._fixed, *self._changed) if len(secret) >= MIN_SECRET_LENGTH)
        # Longest first: one secret may be the start of another.
        self._forms = tuple(sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True))

    def _learn_changes(self) -> None:
        current = frozenset(secret for changing in self._changing for secret in changing())
        if current <= self._changed.keys():
            return
        earlier = [secret for secret in self._changed if secret not in current]
        self._changed = dict.fromkeys((*earlier[-MAX_CHANGED:], *current))
        self._list_forms()

    def __call__(self, text: str) -> str:
        if self._changing:
            self._learn_changes()
        if "ij_" in text:
            text = API_KEY.sub(MASKED, text)
        # Few texts hold a secret, and searching for each form is many times faster than a pattern of them all.
        found = [form for form in self._forms if form in text]
        return re.sub("|".join(map(re.escape, found)), MASKED, text) if found else text


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
    """The base64 characters that depend on the data only, if it starts `before` bytes into a group of three."""
    encoded = base64.b64encode(b"\0" * before + data).decode()
    begin = -(-before * 8 // 6)
    end = (before + len(data)) * 8 // 6
    return encoded[begin:end]

"""Logs: a line for each thing that happened, ours from INFO on, libraries' from WARNING on, and never a secret."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TextIO
from urllib.parse import quote

from config.load import Configuration
from config.settings import every_secret

_OURS = ("agent", "channels", "config", "gateway")
_MASK = "[hidden]"
_SHORTEST = 6
"""A shorter secret would tear holes into ordinary words, and hides nothing."""


class OneLine(logging.Formatter):
    """A record on one line, a traceback on lines of its own below; secrets are masked wherever they stand."""

    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S")
        forms = {form for secret in secrets for form in (secret, quote(secret, safe="")) if len(secret) >= _SHORTEST}
        self._secrets = sorted(forms, key=len, reverse=True)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """What people wrote may be in a message: it must not look like lines of ours."""
        return super().formatMessage(record).replace("\r", "\\r").replace("\n", "\\n")

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        for secret in self._secrets:
            text = text.replace(secret, _MASK)
        return text


def log_to(stream: TextIO, secrets: Iterable[str]) -> None:
    """Everything from now on goes to the stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneLine(secrets))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in _OURS:
        logging.getLogger(name).setLevel(logging.INFO)


def secrets_in(configuration: Configuration) -> set[str]:
    """Every token and key of the settings, and the halves of those that are made of two."""
    whole = {secret.get_secret_value() for secret in every_secret(configuration.settings)}
    return whole | {secret.rpartition(":")[2] for secret in whole}

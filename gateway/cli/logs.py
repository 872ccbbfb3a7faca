"""Logging: one line per record, ours from INFO on, libraries' from WARNING on, secrets masked."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TextIO
from urllib.parse import quote

from config.load import Configuration
from config.settings import every_secret

_OURS = ("agent", "channels", "config", "gateway")
_MASK = "[hidden]"
_MIN_LENGTH = 6
"""Characters of a secret that is masked: a shorter one occurs in ordinary words."""


class OneLine(logging.Formatter):
    """A record on one line, its traceback on further lines; secrets are masked everywhere."""

    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S")
        self._secrets: list[str] = []
        self.hide(secrets)

    def hide(self, secrets: Iterable[str]) -> None:
        """Masks these too, from now on."""
        forms = {form for secret in secrets for form in (secret, quote(secret, safe="")) if len(secret) >= _MIN_LENGTH}
        self._secrets = sorted({*self._secrets, *forms}, key=len, reverse=True)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """A record may quote text from outside, which must not look like further records."""
        return super().formatMessage(record).replace("\r", "\\r").replace("\n", "\\n")

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        for secret in self._secrets:
            text = text.replace(secret, _MASK)
        return text


def log_to(stream: TextIO, secrets: Iterable[str]) -> None:
    """Sends all further records to the stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneLine(secrets))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in _OURS:
        logging.getLogger(name).setLevel(logging.INFO)


def hide_secrets(configuration: Configuration) -> None:
    """Masks the secrets of these settings too, from now on."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, OneLine):
            handler.formatter.hide(secrets_in(configuration))


def secrets_in(configuration: Configuration) -> set[str]:
    """Every token and key of the settings; of one with a colon also the part after it."""
    secrets = {secret.get_secret_value() for secret in every_secret(configuration.settings)}
    return secrets | {secret.rpartition(":")[2] for secret in secrets}

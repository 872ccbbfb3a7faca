"""Logging: one line per record, ours from the level of the settings on, libraries' from WARNING on, secrets masked."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import TextIO
from urllib.parse import quote

from agent.agent import unmasked
from config.load import Configuration
from config.settings import every_secret
from config.signals import LoggingSettings
from gateway.log_context import about

_OURS = ("agent", "channels", "config", "gateway")
_MASK = "[hidden]"
_MIN_LENGTH = 6
"""Characters of a secret that is masked: a shorter one occurs in ordinary words."""

_JSON_NAMES = {"levelname": "level", "name": "logger", "exc_info": "exception", "stack_info": "stack"}


class OneLine(logging.Formatter):
    """A record on one line, its traceback on further lines."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """A record may quote text from outside, which must not look like further records."""
        return super().formatMessage(record).replace("\r", "\\r").replace("\n", "\\n")


class Masked(logging.Formatter):
    """What another formatter makes of a record, with secrets masked everywhere."""

    def __init__(self, formatter: logging.Formatter, secrets: Iterable[str]) -> None:
        super().__init__()
        self._formatter = formatter
        self.mask: Callable[[str], str] = unmasked
        """Removes the secrets that a running gateway knows, also those that change."""
        self._secrets: list[str] = []
        self.hide(secrets)

    def hide(self, secrets: Iterable[str]) -> None:
        """Masks these too, from now on."""
        forms = {form for secret in secrets for form in _forms(secret) if len(secret) >= _MIN_LENGTH}
        self._secrets = sorted({*self._secrets, *forms}, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        text = self._formatter.format(record)
        for secret in self._secrets:
            text = text.replace(secret, _MASK)
        return self.mask(text)


class WithContext(logging.Filter):
    """Adds to each record what the work in progress is about."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in asdict(about()).items():
            if value:
                setattr(record, name, value)
        return True


def log_to(stream: TextIO, secrets: Iterable[str], settings: LoggingSettings | None = None) -> None:
    """Sends all further records to the stream."""
    settings = settings or LoggingSettings()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Masked(_json_lines() if settings.format == "json" else OneLine(), secrets))
    if settings.format == "json":
        handler.addFilter(WithContext())
    logging.basicConfig(handlers=[handler], force=True)
    _set_level(settings)


def _set_level(settings: LoggingSettings) -> None:
    level = settings.level.upper()
    logging.getLogger().setLevel(max(logging.WARNING, logging.getLevelName(level)))
    for name in _OURS:
        logging.getLogger(name).setLevel(level)


class LogOfGateway:
    """Keeps what `log_to` has begun as a gateway and its newest settings have it. Implements
    `gateway.assembly.reload.Watcher`."""

    def begun(self, mask: Callable[[str], str]) -> None:
        for formatter in _masking():
            formatter.mask = mask

    def loaded(self, configuration: Configuration) -> None:
        for formatter in _masking():
            formatter.hide(secrets_in(configuration))

    def in_force(self, configuration: Configuration) -> None:
        _set_level(configuration.settings.logging)


def _masking() -> Iterator[Masked]:
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, Masked):
            yield handler.formatter


def secrets_in(configuration: Configuration) -> set[str]:
    """Every token and key of the settings; of one with a colon also the part after it."""
    secrets = {secret.get_secret_value() for secret in every_secret(configuration.settings)}
    return secrets | {secret.rpartition(":")[2] for secret in secrets}


def _forms(secret: str) -> tuple[str, ...]:
    """How it may be written: as it is, in an address, in JSON."""
    return secret, quote(secret, safe=""), json.dumps(secret, ensure_ascii=False)[1:-1]


def _json_lines() -> logging.Formatter:
    """A JSON object per line: time (UTC), level, logger, message, what it is about, and the traceback of an error."""
    from pythonjsonlogger.json import JsonFormatter

    return JsonFormatter(
        ["levelname", "name", "message"],
        rename_fields=_JSON_NAMES,
        timestamp="time",
        json_ensure_ascii=False,
    )

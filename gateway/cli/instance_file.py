"""The file in the data directory by which a terminal finds the running gateway; readable by its owner only."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_FILE = "gateway.json"


@contextmanager
def published(home: Path, link: str | None) -> Iterator[None]:
    """While entered, the file holds this process's id and link. Does nothing without a link."""
    if link is None:
        yield
        return
    file = home / _FILE
    _write(file, {"pid": os.getpid(), "link": link})
    try:
        yield
    finally:
        if _read(file).get("pid") == os.getpid():
            file.unlink(missing_ok=True)


def published_process(home: Path) -> int | None:
    """The process of the gateway that started last and has a web server; None if there is none. It may have died."""
    pid = _read(home / _FILE).get("pid")
    return pid if isinstance(pid, int) else None


def published_link(home: Path) -> str | None:
    """The link of the gateway that started last. It may have died without removing the file: check that it answers."""
    link = _read(home / _FILE).get("link")
    return link if isinstance(link, str) else None


def replace_link(home: Path, link: str) -> None:
    """Changes the link of the running gateway's file."""
    content = _read(home / _FILE)
    if content:
        _write(home / _FILE, content | {"link": link})


def _write(file: Path, content: dict[str, object]) -> None:
    """Replaces the file atomically, so that no reader sees half of it."""
    temporary = file.with_suffix(f".{os.getpid()}")
    with suppress(FileNotFoundError):
        temporary.unlink()
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        json.dump(content, stream)
    temporary.replace(file)


def _read(file: Path) -> dict[str, object]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}

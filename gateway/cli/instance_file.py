"""How a terminal finds the gateway that runs with its data directory: a small file, readable by its owner only."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_FILE = "gateway.json"


@contextmanager
def announced(home: Path, link: str | None) -> Iterator[None]:
    """Says in the data directory that this process is the gateway there, while it is."""
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


def announced_link(home: Path) -> str | None:
    """The link of the gateway that said so last. It may be gone: ask it."""
    link = _read(home / _FILE).get("link")
    return link if isinstance(link, str) else None


def _write(file: Path, content: dict[str, object]) -> None:
    """The whole file at once, so that nobody reads half of it."""
    whole = file.with_suffix(f".{os.getpid()}")
    with suppress(FileNotFoundError):
        whole.unlink()
    with os.fdopen(os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        json.dump(content, stream)
    whole.replace(file)


def _read(file: Path) -> dict[str, object]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}

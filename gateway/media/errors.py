"""Errors of the storage and of the database, in words for people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from agent.media import MediaUnavailable
from gateway.store.errors import StoreError


class DatabaseUnavailable(MediaUnavailable):
    """The files could be stored or read, but what the database knows of them could not."""


@contextmanager
def storage_errors(name: str) -> Iterator[None]:
    """Raises `MediaUnavailable` in place of `OSError` and `StoreError`. `name` is what cannot be stored or read."""
    try:
        yield
    except OSError as error:
        raise MediaUnavailable(f"{name} cannot be stored or read: {error.strerror or error}") from error
    except StoreError as error:
        raise DatabaseUnavailable(str(error)) from error

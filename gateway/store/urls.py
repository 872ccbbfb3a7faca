"""URLs of databases, as they are written in [store] url."""

from __future__ import annotations

import re

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from gateway.store.errors import StoreFailed

BACKENDS = ("sqlite", "postgresql")


def database_url(url: str) -> URL:
    """Raises `StoreFailed` for a URL of no database that the gateway can use."""
    try:
        parsed = make_url(re.sub("^postgres:", "postgresql:", url))
    except (ArgumentError, ValueError):
        # Without a cause: a wrong port may be a part of the password.
        raise StoreFailed("the store's url is not understood: write sqlite:///FILE or postgresql://…") from None
    if "@" in (parsed.host or ""):
        raise StoreFailed("the store's url has more than one @: in the user and the password it is written %40")
    if parsed.get_backend_name() not in BACKENDS:
        name = parsed.get_backend_name()
        raise StoreFailed(f"the store's url names a {name} database: write sqlite:///FILE or postgresql://…")
    return parsed

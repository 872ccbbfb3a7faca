"""Names of a server's tools and commands, as every provider and platform takes them."""

from __future__ import annotations

import re
from collections.abc import Container
from hashlib import sha256

MAX_NAME = 64

_REFUSED = re.compile(r"[^a-zA-Z0-9_-]+")


def tool_name(server: str, name: str, taken: Container[str] = ()) -> str:
    """`<server>_<name>` of up to 64 of a-z, A-Z, 0-9, _ and -. If that changes the name, is too long or is taken, a
    hash of the original name makes it unique: a tool has the same name whatever other tools there are beside it."""
    clean = _REFUSED.sub("_", name)
    full = f"{server}_{clean}"
    if clean == name and name and len(full) <= MAX_NAME and full not in taken:
        return full
    digest = sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{full[: MAX_NAME - len(digest) - 1]}_{digest}"

"""Detects a package of another origin that Python would import in place of one of ours."""

from __future__ import annotations

import os
from importlib.util import find_spec

PACKAGES = ("agent", "channels", "config", "gateway")

_ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


class NameCollision(ImportError):
    """Python finds another package or module under the name of one of ours. The message says where and what to do."""

    def __init__(self, name: str, location: str) -> None:
        super().__init__(
            f'Name collision: Python finds {location} before Interject\'s own package "{name}".\n'
            "Start Interject without that directory on the module search path: unset PYTHONPATH, run the command "
            '"interject" instead of "python -m interject", or run it in another directory. If another installed '
            "package has this name, install Interject apart from it: with pipx, uv tool, or in a container image."
        )


def require_own_packages() -> None:
    """Raises `NameCollision`. Imports nothing."""
    for name in PACKAGES:
        location = _location(name)
        if location is not None and os.path.realpath(location) != os.path.join(_ROOT, name):
            raise NameCollision(name, location)


def _location(name: str) -> str | None:
    """The folder of the package, or the file of the module, that Python would import; None if there is none."""
    spec = find_spec(name)
    if spec is None:
        return None
    return next(iter(spec.submodule_search_locations or ()), spec.origin)

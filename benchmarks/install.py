"""The size of the default install: what requirements.txt lists, as it is installed here."""

from __future__ import annotations

import asyncio
import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from benchmarks.contenders import ROOT
from benchmarks.scenarios import Bench
from benchmarks.table import Row, Target

MB = 1_000_000


async def install(_bench: Bench) -> list[Row]:
    """Packages, and the bytes of their files, without what the interpreter compiles from them."""
    found = await asyncio.to_thread(_distributions)
    size = await asyncio.to_thread(lambda: sum(map(_bytes, found)))
    return [
        Row("packages of the default install", "", float(len(found)), {}, (Target(75),)),
        Row("size of the default install", "MB", size / MB, {}, (Target(330),)),
    ]


def _distributions() -> list[Distribution]:
    listed = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    found: list[Distribution] = []
    for name in listed:
        try:
            found.append(distribution(name))
        except PackageNotFoundError:
            continue  # for other platforms only
    return found


def _bytes(package: Distribution) -> int:
    files = (package.locate_file(file) for file in package.files or () if "__pycache__" not in str(file))
    return sum(file.stat().st_size for file in files if file.is_file())  # type: ignore[attr-defined]  # a path, where packages are folders

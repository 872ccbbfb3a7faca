"""The size of the default install: the project's dependencies and theirs, as they are installed here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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
    """What `pip install interject` installs beside the project itself."""
    found: dict[str, Distribution] = {}
    left = _wanted(requires("interject"))
    looked_at: set[str] = set()
    while left:
        requirement = left.pop()
        if str(requirement) in looked_at:
            continue
        looked_at.add(str(requirement))
        try:
            package = distribution(requirement.name)
        except PackageNotFoundError:
            continue  # for other platforms only
        found[canonicalize_name(requirement.name)] = package
        left += _wanted(package.requires, requirement.extras)
    return list(found.values())


def _wanted(lines: Iterable[str] | None, extras: Iterable[str] = ()) -> list[Requirement]:
    """Those of the requirements that this platform and these extras want."""
    found = map(Requirement, lines or ())
    return [each for each in found if not (m := each.marker) or any(m.evaluate({"extra": e}) for e in ("", *extras))]


def _bytes(package: Distribution) -> int:
    files = (package.locate_file(file) for file in package.files or () if "__pycache__" not in str(file))
    return sum(file.stat().st_size for file in files if file.is_file())  # type: ignore[attr-defined]  # a path, where packages are folders

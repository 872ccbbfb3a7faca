"""Makes the pictures in `docs/images`: conversations on each platform's local server, and the import graph."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

from tests.screens import GROUPS, group
from tests.screens.admin import shoot_admin
from tests.screens.architecture import architecture
from tests.screens.camera import Camera, camera
from tests.screens.steering import shoot_steering
from tests.screens.story import play
from tests.screens.terminal import terminal_page
from tests.screens.web import shoot_approval, shoot_web

IMAGES = Path(__file__).parents[2] / "docs" / "images"
SUFFIXES = {"steering": ".gif", "architecture": ".svg"}


async def _shoot(name: str, camera: Camera, folder: Path) -> Path:
    file = IMAGES / f"{name}{SUFFIXES.get(name, '.png')}"
    match name:
        case "web-chat":
            await shoot_web(camera, folder, file)
        case "approval":
            await shoot_approval(camera, folder, file)
        case "admin":
            await shoot_admin(camera, folder, file)
        case "steering":
            await shoot_steering(camera, folder, file)
        case "architecture":
            file.write_text(architecture(), encoding="utf-8")
        case "terminal":
            await camera.shoot(await terminal_page(folder), file)
        case _:
            async with group(name) as screen:
                await camera.shoot(await play(screen, folder), file)
    return file


async def _shoot_all(names: list[str]) -> None:
    async with camera() as opened:
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                print(await _shoot(name, opened, Path(folder)))  # noqa: T201 - this is the command's output


def main() -> None:
    known = [*GROUPS, "web-chat", "approval", "admin", "terminal", *SUFFIXES]
    parser = argparse.ArgumentParser(prog="python -m tests.screens", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; without any: all")
    names = parser.parse_args().names
    if unknown := set(names) - set(known):
        parser.error(f"no such picture: {', '.join(sorted(unknown))}")
    asyncio.run(_shoot_all(names or known))


if __name__ == "__main__":
    main()

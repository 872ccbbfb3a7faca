"""Tries a built wheel as its first user does: `python -m tests.install.smoke dist` (see `make dist`).

Installs it into an environment of its own with the pinned dependencies, and leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

from gateway.cli import VERSION
from gateway.store.migrate import revisions
from tests.install.old_databases import database_of
from tests.install.service import ROOT, service


def main(dist: Path) -> None:
    [wheel] = dist.glob("interject-*.whl")
    [source] = dist.glob("interject-*.tar.gz")
    with tempfile.TemporaryDirectory(prefix="interject-smoke-") as folder:
        environment = Path(folder) / "environment"
        venv.create(environment, with_pip=True)
        pip = [str(environment / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--require-hashes", "-r", str(ROOT / "requirements.txt")], check=True)
        for built in (source, wheel):
            # The source distribution is built into a wheel once more.
            subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--force-reinstall", str(built)], check=True)
            for line in smoke(Path(folder) / built.name, (str(environment / "bin" / "interject"),), ""):
                sys.stdout.write(f"{built.name}: {line}\n")
    sys.stdout.write(f"{wheel.name} and {source.name} work\n")


def smoke(folder: Path, program: Sequence[str], python_path: str) -> list[str]:
    """Runs the first commands of the documentation with this program; what it saw."""
    folder.mkdir()
    home = folder / "home"
    environment = {"PATH": os.environ["PATH"], "INTERJECT_HOME": str(home), "PYTHONPATH": python_path}

    def call(*arguments: str) -> str:
        done = subprocess.run([*program, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert call("--version") == f"interject {VERSION}\n"
    assert "Wrote interject.toml" in call("init")
    assert "The configuration is valid" in call("check")
    home.mkdir()
    database_of(revisions()[0], {"turn_log": [{"turn": 1, "n": 1, "entry": '{"kind":"ended"}'}]}, home)
    assert f"went from the schema {revisions()[0]} to" in call("check", "--upgrade")
    (home / "interject.db").unlink()
    served = asyncio.run(_serve(folder, program, python_path))
    return [f"version {VERSION}", "init, check and an upgrade", *served]


async def _serve(folder: Path, program: Sequence[str], python_path: str) -> list[str]:
    async with service(folder, program=program, PYTHONPATH=python_path, INTERJECT_WEB__PORT="0") as running:
        async with running.api() as api:
            page = await api.get("/")
            files = re.findall(r'(?:src|href)="(/page/[^"]+)"', page.text)
            missing = [file for file in files if (await api.get(file)).status_code != 200]
        assert (page.status_code, missing) == (200, [])
        assert files != []
        drawn = await running.answer("draw a chart")
        assert drawn["state"] == "completed"
        assert ".png" in str(drawn["items"])
        assert await running.end(signal.SIGTERM) == 0
    return [f"the page and {len(files)} of its files", "a chart"]


if __name__ == "__main__":
    main(Path(sys.argv[1]))

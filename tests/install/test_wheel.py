"""The wheel: what is in it, and that it works without the repository."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

from gateway.cli import VERSION
from interject.collisions import PACKAGES
from tests.install.service import ROOT, SETTINGS, service
from tests.install.smoke import smoke

OURS = {"interject", *PACKAGES}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    [built] = folder.iterdir()
    assert built.name == f"interject-{VERSION}-py3-none-any.whl"
    return zipfile.ZipFile(built)


def metadata(wheel: zipfile.ZipFile) -> Message:
    return message_from_bytes(wheel.read(f"interject-{VERSION}.dist-info/METADATA"))


def test_every_file_of_the_packages_is_in_it_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    listed = subprocess.run(["git", "ls-files", *OURS], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    ours = {name for name in wheel.namelist() if not name.startswith(f"interject-{VERSION}.dist-info/")}
    assert set(listed.splitlines()) - ours == set()
    assert {name.split("/")[0] for name in ours} == OURS


def test_it_says_which_python_which_extras_and_which_licence(wheel: zipfile.ZipFile) -> None:
    found = metadata(wheel)
    assert (found["Requires-Python"], found["License-Expression"]) == (">=3.11", "MIT")
    assert {"slack", "discord", "telegram", "charts", "documents", "mcp", "otel"} <= set(
        found.get_all("Provides-Extra")
    )
    assert f"interject-{VERSION}.dist-info/licenses/LICENSE" in wheel.namelist()


LIBRARIES = {
    "slack": ("slack_bolt", 'bot_token = "xoxb-1"\napp_token = "xapp-1"'),
    "discord": ("discord", 'token = "1"'),
    "telegram": ("telegram", 'token = "123456:a-token-of-a-bot-in-a-test"'),
}


@pytest.mark.parametrize("channel", LIBRARIES)
async def test_a_channel_whose_library_is_missing_says_what_to_install_and_the_rest_works(
    channel: str, tmp_path: Path
) -> None:
    library, settings = LIBRARIES[channel]
    (tmp_path / "interject.toml").write_text(f"{SETTINGS}[channels.{channel}]\n{settings}\n")
    without = f"import sys; sys.modules[{library!r}] = None; from interject.command import main; sys.exit(main())"
    async with service(tmp_path, program=(sys.executable, "-c", without)) as running:
        assert (await running.answer("hello"))["state"] == "completed"
        await running.end(signal.SIGTERM)
        assert running.process.stderr is not None
        log = (await running.process.stderr.read()).decode()
    assert f"the library {library} is not installed: pip install 'interject[{channel}]'" in log
    assert "Traceback" not in log


def test_it_works_without_the_repository(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    installed = tmp_path / "site-packages"
    wheel.extractall(installed)
    path = os.pathsep.join((str(installed), sysconfig.get_path("purelib")))
    assert len(smoke(tmp_path / "user", (sys.executable, "-P", "-m", "interject"), path)) == 4

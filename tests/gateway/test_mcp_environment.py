"""A program of a virtual environment as an MCP server: in the sandbox it sees its packages, and nothing beside them."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest

from tests.gateway.test_from_settings import answering, asked, person
from tests.gateway.test_mcp import SEES, ready
from tests.servers.models import Call, ModelServer, Say

pytestmark = pytest.mark.skipif(
    which("bwrap") is None, reason="bubblewrap is not installed: the sandbox of MCP servers is NOT tested"
)


@pytest.fixture
def project() -> Iterator[Path]:
    """A folder that is a virtual environment, too. The sandbox has a /tmp and a /dev/shm of its own, so it is in
    neither."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        real = Path(sys.executable).resolve()
        root = Path(folder)
        (root / "bin").mkdir()
        (root / "bin" / "python").symlink_to(real)
        (root / "lib").mkdir()
        (root / "lib" / "package.py").touch()
        (root / "pyvenv.cfg").write_text(f"home = {real.parent}\n")
        yield root


async def test_settings_beside_the_packages_are_not_seen(project: Path, models: ModelServer) -> None:
    seen = [project / "lib" / "package.py", project / "interject.toml", project / ".env"]
    (project / ".env").write_text("A=secret\n")
    script = project / "sees.py"
    script.write_text(SEES.format(files=[str(path) for path in seen]))
    models.respond(answering(Call("files_odd", {}), Say("Seen.")))
    settings = (
        f'[mcp.files]\ncommand = ["{project / "bin" / "python"}", "{script}"]\n'
        '[mcp.files.tools.odd]\napproval = "never"\n'
    )
    async with person(project, models, settings) as ann:
        await ready(ann)
        await ann.asks("look")
    (result,) = asked(models, "big")[-1].results.values()
    assert "True False False" in result

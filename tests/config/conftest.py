from pathlib import Path

import pytest

from config.errors import ConfigurationError
from config.load import Configuration, load
from config.settings import Settings


class Operator:
    """Writes a file, sets variables, and starts."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "etc" / "interject.toml"
        self.home = directory / "home"
        self.file.parent.mkdir()

    def start(self, toml: str = "", **environ: str) -> Configuration:
        self.file.write_text(toml, encoding="utf-8")
        return load(self.file, environ, self.home)

    def settings(self, toml: str = "", **environ: str) -> Settings:
        return self.start(toml, **environ).settings

    def refused(self, toml: str = "", **environ: str) -> list[str]:
        """The lines that the operator reads, with the file's directory left out."""
        with pytest.raises(ConfigurationError) as refusal:
            self.start(toml, **environ)
        return str(refusal.value).replace(f"{self.file.parent}/", "").splitlines()


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Operator:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return Operator(tmp_path)

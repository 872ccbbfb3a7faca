"""Imports in threads come one after the other."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from agent.loading import importing, load


async def test_what_one_import_does_without_another_one_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "without_it.py").write_text("try:\n    import colorsys\nexcept ImportError:\n    colorsys = None\n")
    (tmp_path / "needs_it.py").write_text("import colorsys\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with importing(without="colorsys"):
        without = __import__("without_it")
        other = asyncio.create_task(load("needs_it"))
        done, _ = await asyncio.wait({other}, timeout=0.2)
        assert not done
    assert without.colorsys is None
    assert (await other).colorsys.rgb_to_hsv(0, 0, 0) == (0, 0, 0)


async def test_a_package_that_is_loaded_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    import colorsys

    with importing(without="colorsys"):
        assert sys.modules["colorsys"] is colorsys
    assert sys.modules["colorsys"] is colorsys

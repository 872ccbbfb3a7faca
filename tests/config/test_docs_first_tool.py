"""The page *Your first tool*, held to the code: its examples are loaded and run from the command line."""

from __future__ import annotations

import inspect
import os
import pty
import re
import sys
from pathlib import Path

import pytest

from agent.tool import tool
from config.load import load
from gateway.assembly.custom_tools import OwnTools
from gateway.cli.main import main
from tests.config.test_docs import examples, in_first_column, page, section

DICE, STRIPES, PLANT, SHOP = re.findall(r"^```python\n(.*?)^```", page("first-tool"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where its reader has saved the examples, and is."""
    (tmp_path / "tools").mkdir()
    for name, code in {"dice": DICE, "stripes": STRIPES, "plant": PLANT, "shop": SHOP}.items():
        (tmp_path / "tools" / f"{name}.py").write_text(code)
    (tmp_path / "interject.toml").write_text("\n".join(examples(page("first-tool"))))
    monkeypatch.setenv("SHOP_TOKEN", "a-token-of-the-shop")
    monkeypatch.setenv("INTERJECT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_its_first_tool_runs_as_the_page_says(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "interject.toml").write_text("")
    (folder / "tools" / "shop.py").unlink()
    (command,) = re.findall(r"^    interject (tools try .*)$", page("first-tool"), re.MULTILINE)
    *words, arguments = command.split(" ", 3)
    assert main([*words, arguments.strip("'"), "--config", str(folder / "interject.toml")]) == 0
    assert re.fullmatch(r"You rolled \d+ of 20\.\n", capsys.readouterr().out)


def test_its_picture_is_drawn_with_progress(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tools", "try", "stripes", '{"count": 2}']) == 0
    told = capsys.readouterr()
    assert told.err.splitlines() == ["stripe 1 of 2", "stripe 2 of 2"]
    assert "file: stripes.png" in told.out
    assert (folder / "stripes.png").read_bytes().startswith(b"\x89PNG")


def test_its_tool_that_asks_goes_on_with_the_answer(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ["tools", "try", "plant", '{"tree": "oak"}']
    assert main(call) == 1
    assert "Nobody can be asked here" in capsys.readouterr().err
    keyboard, terminal = pty.openpty()
    os.write(keyboard, b"huge\nlarge\n\n")
    with open(terminal) as screen:
        monkeypatch.setattr(sys, "stdin", screen)
        assert main(call) == 0
        told = capsys.readouterr()
        assert told.out == "Planted: oak, large.\n"
        assert told.err.count("How large is the **oak** to be?\nSmall / Large\n") == 2
        assert main(call) == 0
        assert capsys.readouterr().out == "Not planted: the person gave no answer.\n"
    os.close(keyboard)


def test_its_tool_with_settings_asks_first_and_gets_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    order = ["tools", "try", "order", '{"item": "tea"}']
    assert main(order) == 1
    assert "needs approval" in capsys.readouterr().err
    assert main([*order, "--yes"]) == 0
    assert capsys.readouterr().out == "Ordered tea at https://shop.example.com.\n"


def test_all_of_its_examples_are_loaded(folder: Path) -> None:
    own = OwnTools(load(folder / "interject.toml", {"SHOP_TOKEN": "a-token-of-the-shop"}, folder / "home"))
    own.load()
    assert not own.faults
    assert {each.name for each in own} == {"roll_dice", "stripes", "plant", "order"}


def test_it_names_every_parameter_of_the_decorator() -> None:
    rows = in_first_column(section(page("first-tool"), "What a tool says about itself"))
    assert set(rows) == set(inspect.signature(tool).parameters)

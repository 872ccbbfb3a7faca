"""Hooks as Python classes: where they are found, and what is said of those that cannot be used."""

from pathlib import Path

import pytest

from agent.hook import Deny, Hook, HookContext, MessageIn
from agent.hooks.python import python_hook
from agent.hooks.runner import HookError

HERE = HookContext()


class Polite:
    async def on_message(self, context: HookContext, message: MessageIn) -> Deny | None:
        return None if "please" in message.text else Deny("say please")

    def after_model(self, context: HookContext, answer: object) -> None:
        return None


class Inheriting(Hook):
    async def on_message(self, context: HookContext, message: MessageIn) -> Deny:
        return Deny("closed today")


class Broken:
    def __init__(self) -> None:
        raise ValueError("no such luck")


class Greedy:
    def __init__(self, money: int) -> None:
        self.money = money


polite = Polite()


async def test_a_class_is_found_by_its_module_and_name() -> None:
    async with python_hook("tests.agent.test_hooks_python:Polite", ["on_message"]) as hook:
        assert await hook.ask("on_message", HERE, MessageIn("go")) == Deny("say please")
        assert await hook.ask("on_message", HERE, MessageIn("go, please")) is None


async def test_a_class_is_found_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "rules.py"
    file.write_text("class Rules:\n    async def on_message(self, context, message):\n        return None\n")
    async with python_hook(f"{file}:Rules", ["on_message"]) as hook:
        assert await hook.ask("on_message", HERE, MessageIn("go")) is None


async def test_a_class_is_found_as_a_packages_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "polite-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: polite\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[interject.hooks]\npolite = tests.agent.test_hooks_python:Polite\n")
    monkeypatch.syspath_prepend(tmp_path)
    async with python_hook("polite", ["on_message"]) as hook:
        assert await hook.ask("on_message", HERE, MessageIn("go")) == Deny("say please")
    with pytest.raises(HookError, match=r"'rude' cannot be loaded: .* an entry point .*; known entry points: .*polite"):
        python_hook("rude", ["on_message"])


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("nowhere.at.all:Rules", "cannot be loaded: ModuleNotFoundError"),
        ("nowhere.py:Rules", "cannot be loaded: FileNotFoundError"),
        ("tests.agent.test_hooks_python:Missing", "cannot be loaded: AttributeError.*Missing"),
        ("tests.agent.test_hooks_python:polite", "is a Polite, not a class"),
        ("tests.agent.test_hooks_python:Broken", "cannot be created: ValueError: no such luck"),
        ("tests.agent.test_hooks_python:Greedy", "cannot be created: TypeError"),
        (":Polite", "cannot be loaded: ValueError"),
        ("", "neither module:name nor an entry point"),
    ],
)
def test_what_cannot_be_loaded_is_said_to_the_operator(path: str, why: str) -> None:
    with pytest.raises(HookError, match=why):
        python_hook(path, ["on_message"])


def test_a_module_that_exits_does_not_end_the_gateway(tmp_path: Path) -> None:
    file = tmp_path / "rules.py"
    file.write_text("raise SystemExit('bye')\n")
    with pytest.raises(HookError, match=r"cannot be loaded: SystemExit: bye \(line 1 of .*rules.py\)"):
        python_hook(f"{file}:Rules", ["on_message"])


def test_a_hook_needs_a_method_for_each_of_its_points() -> None:
    with pytest.raises(HookError, match="is registered at before_tool, but has no method of that name"):
        python_hook("tests.agent.test_hooks_python:Polite", ["on_message", "before_tool"])


def test_a_method_that_is_not_async_is_refused() -> None:
    with pytest.raises(HookError, match=r"must be an async method: async def after_model\(self, context, subject\)"):
        python_hook("tests.agent.test_hooks_python:Polite", ["after_model"])


def test_a_point_that_a_hook_only_inherits_counts_as_missing() -> None:
    with pytest.raises(HookError, match="is registered at before_tool, but has no method of that name"):
        python_hook("tests.agent.test_hooks_python:Inheriting", ["before_tool"])


async def test_a_hook_may_inherit_the_signatures_of_the_points() -> None:
    async with python_hook("tests.agent.test_hooks_python:Inheriting", ["on_message"]) as hook:
        assert await hook.ask("on_message", HERE, MessageIn("go")) == Deny("closed today")

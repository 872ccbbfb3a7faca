"""Hooks as the operator lists them, of whichever kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from agent.hooks.chain import Hook
from agent.hooks.runner import Runner
from config.hooks import HookSettings, HttpHookSettings, ProcessHookSettings, PythonHookSettings
from config.load import Configuration

SIGN_OF_LIFE = 10.0
"""Seconds a hook's process has to answer anything at all."""


def configured_hooks(configuration: Configuration, mask: Callable[[str], str]) -> list[Hook]:
    """`mask` takes known secrets out of a text. Raises `HookError` for a hook that cannot be had."""
    return [
        Hook(
            section.name,
            _runner(configuration, section, mask),
            tuple(section.points),
            section.priority,
            section.timeout,
            section.on_error,
            section.trusted,
        )
        for section in configuration.settings.hooks
    ]


def _runner(configuration: Configuration, section: HookSettings, mask: Callable[[str], str]) -> Runner:
    match section:
        case PythonHookSettings():
            from agent.hooks.python import python_hook

            return python_hook(section.path, section.points)
        case ProcessHookSettings():
            from agent.hooks.process import Pace, ProcessHook

            directory = configuration.file.absolute().parent if configuration.file else None
            pace = Pace(sign=max(SIGN_OF_LIFE, section.timeout))
            return ProcessHook(section.name, section.command, section.points, directory=directory, pace=pace)
        case HttpHookSettings():
            from agent.hooks.http import HttpHook

            return HttpHook(section.name, section.url, section.secret.get_secret_value(), mask)
        case _:
            assert_never(section)

"""Hooks from settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from agent.hooks.chain import RegisteredHook
from agent.hooks.runner import Runner
from config.hooks import HookSettings, HttpHookSettings, ProcessHookSettings, PythonHookSettings
from config.load import Configuration

PING_TIMEOUT = 10.0
"""Seconds within which a hook's process must show that it works."""


def configured_hooks(configuration: Configuration, mask: Callable[[str], str]) -> list[RegisteredHook]:
    """`mask` removes known secrets from a text. Raises `HookError` for a hook that cannot be loaded."""
    return [
        RegisteredHook(
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
            from agent.hooks.process import ProcessHook, ProcessTimeouts

            directory = configuration.file.absolute().parent if configuration.file else None
            timeouts = ProcessTimeouts(ping=max(PING_TIMEOUT, section.timeout))
            return ProcessHook(
                section.name,
                section.command,
                section.points,
                directory=directory,
                timeouts=timeouts,
                variables=frozenset(section.environment),
            )
        case HttpHookSettings():
            from agent.hooks.http import HttpHook

            return HttpHook(section.name, section.url, section.secret.get_secret_value(), mask)
        case _:
            assert_never(section)

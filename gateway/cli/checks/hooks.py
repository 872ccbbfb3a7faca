"""Checks of hooks in Python: they are loaded as `interject run` loads them."""

from __future__ import annotations

from agent.hooks.python import python_hook
from agent.hooks.runner import HookError
from config.hooks import PythonHookSettings
from gateway.cli.checks.result import CheckResult


def check_hook(hook: PythonHookSettings) -> CheckResult:
    part = f"hook {hook.name}"
    try:
        python_hook(hook.path, hook.points)
    except HookError as error:
        return CheckResult(part, False, str(error))
    return CheckResult(part, True, "can be loaded")

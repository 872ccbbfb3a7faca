"""Checks of hooks: those in Python are loaded as `interject run` loads them, of processes the program is looked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from agent.hooks.python import python_hook
from agent.hooks.runner import HookError
from config.hooks import ProcessHookSettings, PythonHookSettings
from config.load import Configuration
from gateway.cli.checks.result import CheckResult


def check_hooks(configuration: Configuration) -> Iterator[CheckResult]:
    folder = Path.cwd() if configuration.file is None else configuration.file.absolute().parent
    for hook in configuration.settings.hooks:
        if isinstance(hook, PythonHookSettings):
            yield _check_python(hook)
        elif isinstance(hook, ProcessHookSettings):
            yield _check_process(hook, folder)


def _check_process(hook: ProcessHookSettings, folder: Path) -> CheckResult:
    """`folder` is where its process runs."""
    part, program = f"hook {hook.name}", hook.command[0]
    if shutil.which(str(folder / program) if "/" in program else program) is None:
        advice = "Install it, or correct command; until then the hook is asked nothing"
        return CheckResult(part, False, f"there is no program {program} to start. {advice}")
    return CheckResult(part, True, f"its program is {program}")


def _check_python(hook: PythonHookSettings) -> CheckResult:
    part = f"hook {hook.name}"
    try:
        python_hook(hook.path, hook.points)
    except HookError as error:
        return CheckResult(part, False, str(error))
    return CheckResult(part, True, "can be loaded")

"""Hooks from settings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import assert_never

from agent.hooks.chain import HookAnswered, HookChain, RegisteredHook
from agent.hooks.runner import Runner, Running
from config.hooks import HookSettings, HttpHookSettings, ProcessHookSettings, PythonHookSettings
from config.load import Configuration
from gateway.assembly.versions import Version, versions
from gateway.lifecycle.shared_parts import SharedParts
from gateway.outbound.wording import escaped

PING_TIMEOUT = 10.0
"""Seconds within which a hook's process must show that it works."""


async def open_hooks(
    configuration: Configuration,
    mask: Callable[[str], str],
    shared: SharedParts,
    stack: AsyncExitStack,
    answered: Callable[[HookAnswered], None],
) -> HookChain:
    """All hooks, running; the stack ends them. A hook whose section and code are the same goes on. `answered` is told
    of each answer. Raises `HookError`."""
    hooks = [
        _registered(
            section,
            await shared.use(
                f"hook {section.name}",
                (section, _code(configuration, section)),
                partial(_running, configuration, section, mask),
                stack,
            ),
        )
        for section in configuration.settings.hooks
    ]
    return await stack.enter_async_context(HookChain(hooks, answered))


@asynccontextmanager
async def _running(
    configuration: Configuration, section: HookSettings, mask: Callable[[str], str]
) -> AsyncIterator[Runner]:
    runner = _runner(configuration, section, mask)
    async with runner:
        yield Running(runner)


def _code(configuration: Configuration, section: HookSettings) -> tuple[Version, ...]:
    """The versions of the files that the section names."""
    match section:
        case PythonHookSettings():
            return versions([Path(section.path.rpartition(":")[0])])
        case ProcessHookSettings():
            base = Path.cwd() if configuration.file is None else configuration.file.absolute().parent
            return versions(path for part in section.command if (path := base / part).is_file())
        case HttpHookSettings():
            return ()
        case _:
            assert_never(section)


def configured_hooks(configuration: Configuration, mask: Callable[[str], str]) -> list[RegisteredHook]:
    """`mask` removes known secrets from a text. Raises `HookError` for a hook that cannot be loaded."""
    return [_registered(section, _runner(configuration, section, mask)) for section in configuration.settings.hooks]


def hook_problems(hooks: HookChain) -> dict[str, str]:
    """Hooks that cannot be asked at the moment, with the reason as Markdown."""
    return {f"Hook {escaped(name)}": escaped(problem, 300) for name, problem in hooks.problems.items()}


def _registered(section: HookSettings, runner: Runner) -> RegisteredHook:
    return RegisteredHook(
        section.name,
        runner,
        tuple(section.points),
        section.priority,
        section.timeout,
        section.on_error,
        section.trusted,
    )


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

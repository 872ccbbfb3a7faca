"""How the shell runs commands, from settings and from what this system offers."""

from __future__ import annotations

import getpass
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.tools.sandbox import MIB, CommandLimits, CommandPolicy, SandboxUnavailable, probe_sandbox
from config.channels import BUILT_IN_CHANNELS
from config.hooks import ProcessHookSettings, PythonHookSettings
from config.load import Configuration
from config.settings import Settings, every_agent, own_code, shared_channels
from gateway.assembly.channels import WEB
from gateway.assembly.custom_tools import own_tool_files
from gateway.assembly.workspaces import workspace_roots

log = logging.getLogger(__name__)

RUN_CODE = frozenset({"shell", "run_python"})


@dataclass(frozen=True, slots=True)
class ShellPolicy:
    """`policy` is how the shell runs commands. `unavailable` says why there is no sandbox although the settings want
    one. `own` are the channels that are for the operator alone."""

    policy: CommandPolicy
    unavailable: str = ""
    own: frozenset[str] = frozenset(BUILT_IN_CHANNELS)

    def offered(self, channel: str) -> bool:
        """Whether the shell is offered there: without a sandbox, on the operator's own channels only."""
        return not self.unavailable or channel in self.own


async def shell_policy(configuration: Configuration) -> ShellPolicy:
    """Tries the sandbox, if the settings want it and a tool that runs code is enabled."""
    shell = configuration.settings.tools.shell
    policy = CommandPolicy(
        sandboxed=shell.sandbox == "auto",
        network=shell.network == "all",
        limits=CommandLimits(
            memory=shell.memory * MIB,
            file_size=shell.file_size * MIB,
            processes=shell.processes,
            cpu_seconds=shell.cpu_seconds,
            output=shell.output,
            workspace=None if configuration.settings.agent.workspaces == "shared" else shell.workspace_size * MIB,
        ),
        variables=frozenset(shell.environment),
        hidden=tuple(_private(configuration)),
        readable=tuple(configuration.settings.skills.paths),
    )
    if not policy.sandboxed or not runs_code(configuration.settings):
        return ShellPolicy(policy)
    try:
        await probe_sandbox()
    except SandboxUnavailable as error:
        own = frozenset(BUILT_IN_CHANNELS).difference(shared_channels(configuration.settings))
        bare = CommandPolicy(False, policy.network, policy.limits, policy.variables)
        return ShellPolicy(bare, str(error), own)
    return ShellPolicy(policy)


def runs_code(settings: Settings) -> bool:
    """Whether a tool is enabled that runs commands or code."""
    return not RUN_CODE.isdisjoint(settings.tools.enabled)


def _private(configuration: Configuration) -> Iterator[Path]:
    """The gateway's own files and those that the settings name, wherever they are."""
    settings = configuration.settings
    yield from (configuration.home, *workspace_roots(settings).values())
    if settings.media.folder is not None:
        yield settings.media.folder
    if (database := settings.store.file) is not None:
        yield from (database.with_name(database.name + suffix) for suffix in ("", "-wal", "-shm", ".lock"))
    yield from settings.store.secret_files
    if configuration.file is not None:
        file = configuration.file.absolute()
        yield from (file, file.with_name(".env"))
    yield from (agent.instructions_file for agent in every_agent(settings).values() if agent.instructions_file)
    yield from (path for path, _ in own_code(settings))
    yield from _hook_files(configuration)
    yield from own_tool_files(configuration)


def _hook_files(configuration: Configuration) -> Iterator[Path]:
    """Not the system's programs that run them, which commands need too."""
    base = Path.cwd() if configuration.file is None else configuration.file.absolute().parent
    for hook in configuration.settings.hooks:
        match hook:
            case PythonHookSettings():
                module = hook.path.rpartition(":")[0]
                if module.endswith(".py"):
                    yield Path(module)
            case ProcessHookSettings():
                files = [path for path in (base / part for part in hook.command) if path.is_file()]
                yield from (path for path in files if path.is_relative_to(base) or not os.access(path, os.X_OK))
            case _:
                pass


def who_may_run_commands(settings: Settings, shell_policy: ShellPolicy) -> str:
    """One line for the operator: where commands run, and who can have them run."""
    if not runs_code(settings):
        return "off"
    shared = shared_channels(settings)
    channels = ", ".join(shared)
    if shell_policy.policy.sandboxed:
        network = "with" if shell_policy.policy.network else "without"
        return f"in a sandbox, {network} network"
    user = _user()
    if shell_policy.unavailable:
        where = f", and not offered on {channels}" if channels else ""
        own = "the terminal" if WEB in shared else "web and terminal"
        return f"no sandbox{where}: {shell_policy.unavailable}. In {own} commands run as the user {user}"
    everybody = f"all allowed users of {channels}" if channels else "whoever has the web chat's link"
    return f'not in a sandbox (sandbox = "none"): {everybody} can run commands on this host as the user {user}'


def _user() -> str:
    """The name of the user that this process runs as, or the id of one that has no name, as in containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"with the id {os.getuid()}"

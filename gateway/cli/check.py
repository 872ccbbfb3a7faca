"""`interject check`: validates the configuration and, with `--online`, its tokens, keys and models."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict

import httpx

from config.load import Configuration
from config.settings import Settings
from gateway.assembly.agent_files import context_files
from gateway.assembly.models import model_names, providers_in_use, section_of, unpriced
from gateway.assembly.shell_policy import ShellPolicy, shell_policy, who_may_run_commands
from gateway.assembly.web import exposure
from gateway.cli.banner import allowed_users
from gateway.cli.checks.agents import agents_and_routes, unreachable_routes
from gateway.cli.checks.channels import check_channel
from gateway.cli.checks.context import check_context
from gateway.cli.checks.database import check_database
from gateway.cli.checks.hooks import check_hooks
from gateway.cli.checks.libraries import missing_libraries
from gateway.cli.checks.mcp import check_servers, place_of
from gateway.cli.checks.media import check_media
from gateway.cli.checks.models import check_key, check_model, check_transcription
from gateway.cli.checks.names import listed_roles, resolved_names
from gateway.cli.checks.own_tools import check_own_tools
from gateway.cli.checks.result import TIMEOUT, CheckResult
from gateway.cli.checks.secrets import readable_secrets
from gateway.cli.checks.several_workers import not_shared
from gateway.cli.checks.sign_in import sign_in_by_proxy, sign_in_warnings
from gateway.cli.checks.skills import check_skills
from gateway.cli.checks.upgrade import check_upgrade
from gateway.cli.output import json_line, write_lines


def check(configuration: Configuration, *, online: bool, upgrade: bool = False, as_json: bool = False) -> int:
    """Prints a summary and the results, or only these as JSON. Returns the exit code: 1 when a check failed. With
    `upgrade`, the upgrade of the database is tried on a copy."""
    results = [*check_database(configuration.settings), *check_files(configuration)]
    if as_json:
        results.insert(0, CheckResult("settings", True, f"valid ({configuration.file or 'no file, defaults only'})"))
    else:
        write_lines([_summary(configuration, asyncio.run(shell_policy(configuration)))])
    if upgrade:
        results.append(check_upgrade(configuration))
    if online:
        results += asyncio.run(check_online(configuration.settings))
        results += asyncio.run(check_servers(configuration))
        results.append(asyncio.run(check_media(configuration)))
    write_lines(json_line(asdict(result)) if as_json else str(result) for result in results)
    return 0 if all(result.ok for result in results) else 1


def _summary(configuration: Configuration, running: ShellPolicy) -> str:
    settings = configuration.settings
    web = f"http://{settings.web.host}:{settings.web.port}" if settings.web.enabled else "off"
    warnings = [warning for warning in (exposure(settings.web), readable_secrets(configuration)) if warning]
    warnings += [*sign_in_warnings(settings, running), *unreachable_routes(settings), *not_shared(configuration)]
    lines = [
        f"The configuration is valid ({configuration.file or 'no file, defaults only'}).",
        f"  model: {settings.agent.model}",
        *([f"  small model: {settings.agent.small_model}"] if settings.agent.small_model is not None else ()),
        *(f"  {line}" for line in agents_and_routes(settings)),
        f"  web chat: {web}{f', publicly {settings.web.url}' if settings.web.url else ''}",
        *([f"  web: {signs_in}"] if (signs_in := sign_in_by_proxy(settings.web)) else ()),
        *(f"  warning: {warning}" for warning in warnings),
        *([f"  no known price, count as free: {', '.join(names)}"] if (names := unpriced(settings)) else ()),
        *(f"  {name}: allowed users: {allowed_users(name, channel)}" for name, channel in settings.channels.items()),
        *(f"  {line}" for line in (*listed_roles(settings), *resolved_names(settings))),
        f"  tools: {', '.join(settings.tools.enabled) or 'none'}",
        f"  shell commands: {who_may_run_commands(settings, running)}",
        *(f"  hook {hook.name}: {hook.type}, at {', '.join(hook.points)}" for hook in settings.hooks),
        *(f"  MCP server {name}: {place_of(server)}" for name, server in settings.mcp.items()),
        *([f"  context files: {', '.join(files)}"] if (files := _context_files(configuration)) else ()),
        f"  state: {configuration.home}",
    ]
    return "\n".join(lines)


def _context_files(configuration: Configuration) -> list[str]:
    """Those that exist beside the settings file."""
    return [str(path) for path in context_files(configuration).of_operator()]


def check_files(configuration: Configuration) -> list[CheckResult]:
    """What is loaded from files: libraries, hooks, context managers, skills and tools."""
    settings = configuration.settings
    results = [*missing_libraries(settings)]
    results += check_hooks(configuration)
    results += check_context(settings)
    results += check_skills(settings)
    results += check_own_tools(configuration)
    return results


async def check_online(
    settings: Settings, on_response: Callable[[httpx.Response], Awaitable[None]] | None = None
) -> list[CheckResult]:
    """All checks at once; the results in the order of the settings. `on_response` is told of each answer."""
    transcription = settings.agent.transcription_model
    hooks = {"response": [] if on_response is None else [on_response]}
    async with httpx.AsyncClient(timeout=TIMEOUT, event_hooks=hooks) as client, asyncio.TaskGroup() as group:
        models = [group.create_task(check_model(client, settings, model)) for model in model_names(settings)]
        models += [
            group.create_task(check_key(client, settings, provider, number))
            for provider in providers_in_use(settings)
            for number in range(1, len(section_of(settings, provider).api_key or ()))
        ]
        if transcription is not None:
            models.append(group.create_task(check_transcription(client, settings, transcription)))
        channels = [group.create_task(check_channel(client, *named)) for named in settings.channels.items()]
    return [task.result() for task in models] + [result for task in channels for result in task.result()]

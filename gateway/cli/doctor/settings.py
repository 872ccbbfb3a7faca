"""The settings: secrets that others can read, who reaches the web server, routes, prices, and what is loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from config.load import Configuration
from gateway.assembly.models import unpriced
from gateway.assembly.shell_policy import shell_policy
from gateway.assembly.web import exposure
from gateway.cli.check import check_files
from gateway.cli.checks.agents import unreachable_routes
from gateway.cli.checks.secrets import readable_secrets
from gateway.cli.checks.several_workers import not_shared
from gateway.cli.checks.sign_in import sign_in_by_proxy, sign_in_warnings
from gateway.cli.doctor.finding import Finding
from gateway.cli.doctor.servers import as_finding


def check_settings(configuration: Configuration) -> Iterator[Finding]:
    settings = configuration.settings
    yield Finding("settings", "ok", f"valid ({configuration.file or 'no file, defaults only'})")
    if readable := readable_secrets(configuration):
        yield Finding("secrets", "problem", *_parts(readable, "whoever has them acts as the bot, at your cost"))
    if exposed := exposure(settings.web):
        yield Finding("web", "warning", *_parts(exposed, "whoever reads the token can read and write everything"))
    if signs_in := sign_in_by_proxy(settings.web):
        yield Finding("sign-in", "ok", signs_in)
        for warning in sign_in_warnings(settings, asyncio.run(shell_policy(configuration))):
            yield Finding("sign-in", "warning", *_parts(warning, "people reach what is not theirs, or are refused"))
    for warning in not_shared(configuration):
        yield Finding(
            "several workers", "warning", *_parts(warning, "workers need the same files, and the same patience")
        )
    for route in unreachable_routes(settings):
        yield Finding("routes", "warning", route, "its agent never answers", "put it before the route that covers it")
    if names := unpriced(settings):
        what = f"no price is known of {', '.join(names)}"
        why = "their calls count as free, so that limits of cost do not hold"
        yield Finding("prices", "warning", what, why, "set price in [models.PROVIDER.NAME]")
    yield from map(as_finding, check_files(configuration))


def _parts(text: str, why: str) -> tuple[str, str, str]:
    """What is so, why it matters, and what to do: the text after its first full stop."""
    what, _, advice = text.partition(". ")
    return what, why, advice

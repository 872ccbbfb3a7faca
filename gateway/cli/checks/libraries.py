"""Whether the libraries are installed that the settings need: the default install does not have all of them, and some
people install a part of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec

from config.settings import Settings
from gateway.cli.checks.result import CheckResult

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "slack": ("slack_bolt", "aiohttp"),
    "discord": ("discord",),
    "telegram": ("telegram",),
    "charts": ("matplotlib",),
    "documents": ("pypdf", "docx", "pptx", "openpyxl"),
    "mcp": ("mcp",),
    "postgres": ("psycopg",),
    "s3": ("obstore",),
    "otel": ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"),
}
"""The modules that each extra of the package brings."""


def missing_libraries(settings: Settings) -> Iterator[CheckResult]:
    """A failed check for each extra that a setting needs and that is not installed."""
    for extra, setting in _needed(settings).items():
        missing = [module for module in EXTRAS[extra] if not _is_installed(module)]
        if missing:
            text = f"{setting} needs {', '.join(missing)}, not installed here; pip install 'interject[{extra}]'"
            yield CheckResult(f"extra {extra}", False, text)


def _needed(settings: Settings) -> dict[str, str]:
    """The extras, each with a setting that needs it."""
    needed: dict[str, str] = {section.type: f"[channels.{name}]" for name, section in settings.channels.items()}
    if "draw_chart" in settings.tools.enabled:
        needed["charts"] = "draw_chart of [tools] enabled"
    if settings.mcp:
        needed["mcp"] = f"[mcp.{next(iter(settings.mcp))}]"
    if settings.telemetry.endpoint is not None:
        needed["otel"] = "[telemetry] endpoint"
    if settings.store.url.startswith("postgres"):
        needed["postgres"] = "[store] url"
    if settings.media.is_bucket:
        needed["s3"] = "[media] url"
    return needed


def _is_installed(module: str) -> bool:
    """Looks for it, and loads no more than the packages that it is in."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False

"""Settings of what operators' tools read: metrics, logs and traces."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from config.section import Section


class LoggingSettings(Section):
    """The log, on standard error. Known secrets are masked in it."""

    format: Literal["text", "json"] = Field(
        default="text",
        description='"text" for people, or "json" for programs: an object per line, with the ids of the channel, the '
        "session and the turn.",
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="The least severe records that are logged. Those of libraries are logged from warning on.",
    )


class MetricsSettings(Section):
    """Metrics for Prometheus, at /metrics of the web server."""

    public: bool = Field(
        default=False,
        description="Whether /metrics needs no token. Without it, a scraper sends the web chat's token as a Bearer "
        "token. Metrics have names of channels, models, tools and hooks, and no words or names of people.",
    )

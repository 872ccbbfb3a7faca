"""Settings of what operators' tools read: metrics, logs and traces."""

from __future__ import annotations

from pydantic import Field

from config.section import Section


class MetricsSettings(Section):
    """Metrics for Prometheus, at /metrics of the web server."""

    public: bool = Field(
        default=False,
        description="Whether /metrics needs no token. Without it, a scraper sends the web chat's token as a Bearer "
        "token. Metrics have names of channels, models, tools and hooks, and no words or names of people.",
    )

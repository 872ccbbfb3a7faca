"""Settings of what operators' tools read: metrics, logs and traces."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from config.section import Secret, Section, WebAddress


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
        description="Whether /metrics needs no key. Without it, a scraper sends a key of the API with the scope "
        "operate, or the web chat's token, as a Bearer token. Metrics have names of channels, models, tools and "
        "hooks, and no words or names of people.",
    )


class TelemetrySettings(Section):
    """Traces for OpenTelemetry, sent to a collector by OTLP over HTTP. They need the extra otel."""

    endpoint: WebAddress | None = Field(
        default=None,
        description="Address of the collector, with or without /v1/traces at its end. Default: nothing is traced.",
        examples=["http://127.0.0.1:4318"],
    )
    headers: dict[str, Secret] = Field(
        default_factory=dict,
        description="HTTP headers that are sent with them, such as a key of the service. Their values are secrets.",
        examples=[{"Authorization": "Bearer ${OTLP_TOKEN}"}],
    )
    content: bool = Field(
        default=False,
        description="Whether traces have the words of people and models, and the arguments and results of tools.",
    )

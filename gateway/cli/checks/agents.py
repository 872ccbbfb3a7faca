"""What `interject check` says of agents by name: each with its model, and who answers where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from config.agents import DEFAULT_AGENT, RouteSettings
from config.settings import Settings
from gateway.assembly.models import default_model


def agents_and_routes(settings: Settings) -> Iterator[str]:
    """A line for each, in the order of the settings; nothing if there is only the agent of [agent]."""
    for name, agent in settings.agents.items():
        model = agent.model or f"that of the channel, or {default_model(settings, '')}"
        yield f"agent {name}: model {model}{f'; {agent.description}' if agent.description else ''}"
    for number, route in enumerate(settings.routes, 1):
        yield f"route {number}: {_conditions(route)} → {route.agent}"
    if settings.agents:
        yield f"elsewhere: {DEFAULT_AGENT}"


def unreachable_routes(settings: Settings) -> Iterator[str]:
    """A warning for each route that never holds."""
    for number, route in enumerate(settings.routes, 1):
        earlier = _covered_by(route, settings.routes[: number - 1])
        if earlier is not None:
            yield f"route {number} ({_conditions(route)} → {route.agent}) never holds: route {earlier} comes first"


def _covered_by(route: RouteSettings, earlier: Sequence[RouteSettings]) -> int | None:
    """The number of the first route that holds wherever this one does."""
    conditions = _comparable(route)
    found = (number for number, other in enumerate(earlier, 1) if _comparable(other) <= conditions)
    return next(found, None)


def _comparable(route: RouteSettings) -> set[tuple[str, str]]:
    return {(name, value.lower() if name == "person" else value) for name, value in route.conditions.items()}


def _conditions(route: RouteSettings) -> str:
    return ", ".join(f"{name} {value}" for name, value in route.conditions.items())

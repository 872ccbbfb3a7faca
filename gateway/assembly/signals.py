"""Signals for operators' tools, from settings: what is told, who is told, and where it can be asked for."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, get_args

from agent.agent import unmasked
from agent.tool import Tool
from config.settings import Settings
from config.signals import TelemetrySettings
from gateway import VERSION
from gateway.app import Gateway
from gateway.assembly.custom_tools import BUILT_IN
from gateway.inbound.api_keys import ApiKeys
from gateway.lifecycle.supervision import Service
from gateway.signals.http_app import SignalsApp
from gateway.signals.lines import Lines
from gateway.signals.metrics import OTHER, Metrics, State
from gateway.signals.readiness import Readiness
from gateway.signals.sampling import Sampler
from gateway.signals.signal import Signals, Watch
from gateway.store.errors import StoreError
from gateway.store.process import WorkerState, state_of
from gateway.store.workers import Worker

if TYPE_CHECKING:
    # Only where traces are configured.
    from gateway.signals.traces import Traces

log = logging.getLogger(__name__)


class ToolLabels:
    """Call it for the label of a tool's name: not more than the settings allow, whatever models and programs name.
    `own` are the operator's own tools, once they are loaded; tools of an MCP server have one label."""

    def __init__(self, servers: Collection[str]) -> None:
        self.own: Iterable[Tool] = ()
        self._servers: list[str] = []
        self.use(servers)

    def use(self, servers: Collection[str]) -> None:
        """From now on these servers."""
        # The longest first: a server's name may begin with another's.
        self._servers = sorted(servers, key=len, reverse=True)

    def __call__(self, name: str) -> str:
        if name in BUILT_IN or any(tool.name == name for tool in self.own):
            return name
        server = next((each for each in self._servers if name.startswith(f"{each}_")), None)
        return OTHER if server is None else f"mcp:{server}"


class ExtraMissing(Exception):
    """The settings need an extra that is not installed. The message says how to install it."""


class ConfiguredSignals:
    """`tell` is told of everything. `tool_labels` is to get the operator's own tools, `mask` is to remove known
    secrets. Raises `ExtraMissing`."""

    def __init__(self, settings: Settings) -> None:
        self._public = settings.metrics.public
        self.mask: Callable[[str], str] = unmasked
        self.tool_labels = ToolLabels(settings.mcp)
        self._metrics = Metrics(self.tool_labels)
        self._traces = _traces(settings.telemetry, self._masked)
        watching: list[Watch] = [self._metrics, Lines(self._masked)]
        self.tell = Signals(*watching, *(() if self._traces is None else (self._traces,)))

    async def aclose(self) -> None:
        """Sends the last traces."""
        if self._traces is not None:
            await asyncio.to_thread(self._traces.close)

    def _masked(self, text: str) -> str:
        return self.mask(text)

    def serve(self, gateway: Gateway, token: Callable[[], Awaitable[str]]) -> tuple[SignalsApp, tuple[Service, ...]]:
        """The app of the signals' addresses, and the services that it needs beside it."""
        readiness = Readiness(gateway.store.check_writing, gateway.channel_states)
        sampler = Sampler(self._metrics, gateway.channel_states)

        async def state() -> State:
            return await _state(gateway)

        authorized = None if self._public else partial(_may_read_metrics, token, gateway.keys)
        app = SignalsApp(self._metrics, readiness, state, sampler.start, authorized)
        return app, (readiness.run, sampler.run)


def _traces(settings: TelemetrySettings, mask: Callable[[str], str]) -> Traces | None:
    if settings.endpoint is None:
        return None
    try:
        from gateway.signals.traces import exporting
    except ImportError as error:
        raise ExtraMissing(
            f"[telemetry] endpoint needs the extra otel, which is not installed ({error}). "
            "Install it: pip install 'interject[otel]'"
        ) from error
    headers = {name: value.get_secret_value() for name, value in settings.headers.items()}
    return exporting(settings.endpoint, headers, mask, content=settings.content)


async def _may_read_metrics(token: Callable[[], Awaitable[str]], keys: ApiKeys, secret: str) -> bool:
    """The owner of the web chat's token may, and who has a key of the API that sees everything."""
    if secret and hmac.compare_digest(secret.encode(), (await token()).encode()):
        return True
    try:
        key = await keys.find(secret)
    except StoreError as error:
        log.warning("a key for the metrics cannot be checked: %s", error)
        return False
    if key is None or key.scope not in ("operate", "admin"):
        return False
    return key.conversations is None and key.agents is None


async def _state(gateway: Gateway) -> State:
    backlog = None
    workers: tuple[Worker, ...] = ()
    with suppress(StoreError):
        # What the store does not answer is told by that: interject_store_up is 0.
        backlog, workers = await gateway.store.backlog(), await gateway.store.list_workers()
    states = Counter(state_of(each) for each in workers)
    dispatcher = gateway.dispatcher
    return State(
        len(dispatcher.running()),
        dispatcher.waiting,
        gateway.delivery.waiting(),
        gateway.channel_states(),
        backlog,
        VERSION,
        # One that has ended is told as 0, so that a graph does not keep its last value.
        {state: states[state] for state in get_args(WorkerState)} if workers else {},
        next((each.left for each in workers if each.id == gateway.store.worker), None),
        gateway.channel_connections(),
        gateway.is_lease_valid(),
    )

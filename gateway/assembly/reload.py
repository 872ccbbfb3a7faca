"""Reload: a running gateway takes over the settings file as it is now, all of it or nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Protocol, TypeVar

from agent.context.manager import ContextError
from agent.hooks.runner import HookError
from agent.interrupt import Interrupted, race
from channels.address import Address
from channels.channel import Channel
from config.errors import ConfigurationError
from config.fingerprint import fingerprint, fingerprints
from config.load import Configuration, load
from config.reload import changed, in_force
from config.settings import Settings, every_secret
from gateway.app import Gateway
from gateway.assembly.channels import Webhooks, without_web_server
from gateway.assembly.custom_tools import OwnTools
from gateway.assembly.generation import Generation, Permanent, build_generation
from gateway.lifecycle.broken_channel import BrokenChannel
from gateway.lifecycle.reloading import Reloaded
from gateway.lifecycle.tasks import BackgroundTasks
from gateway.outbound.call_lines import code
from gateway.store import Store
from gateway.store.errors import StoreError

log = logging.getLogger(__name__)

MAX_FORMER = 20
"""Former configurations whose parts running turns may still use."""

MAX_NAMED = 30
"""Settings that one answer names."""

T = TypeVar("T")


class Watcher(Protocol):
    """Who is told of a gateway that begins, of each configuration that is loaded, before anything is made of it, and of
    each that is in force from now on."""

    def begun(self, mask: Callable[[str], str]) -> None:
        """`mask` removes the secrets that the gateway knows at any time."""

    def loaded(self, configuration: Configuration) -> None:
        """It may not be used: for what must be known before, such as secrets."""

    def in_force(self, configuration: Configuration) -> None:
        """It is used."""


class NoWatcher:
    def begun(self, mask: Callable[[str], str]) -> None:
        """Nobody need know."""

    def loaded(self, configuration: Configuration) -> None:
        """Nobody need know."""

    def in_force(self, configuration: Configuration) -> None:
        """Nobody need know."""


class Refused(Exception):
    """The new configuration cannot be used. The message has a line for each problem."""


class SettingsReload:
    """Use as `async with`, around the gateway: leaving it closes what the generations have opened."""

    def __init__(
        self,
        first: Generation,
        permanent: Permanent,
        webhooks: Webhooks,
        environ: Mapping[str, str],
        watcher: Watcher,
    ) -> None:
        self.generation = first
        self._loaded = first.configuration
        self._permanent = permanent
        self._webhooks = webhooks
        self._environ = environ
        self._watcher = watcher
        self._changed = asyncio.Event()
        self._former = 0
        self._closing = BackgroundTasks("closing a former configuration failed")
        self.gateway: Gateway | None = None
        """The one that is reloaded, once there is one."""
        webhooks.use(first.configuration.settings, first.platforms)

    async def __aenter__(self) -> SettingsReload:
        await self._closing.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._closing.__aexit__(*exc)
        await self.generation.stack.aclose()

    async def reload(self) -> Reloaded:
        """Implements `gateway.lifecycle.reloading.Reload`."""
        try:
            loaded, generation, tools = await self._prepare()
        except Refused as error:
            return _refused(str(error))
        except Exception:
            log.exception("the settings cannot be used")
            return _refused("internal error in the gateway; details are in its log")
        before, after = self.generation.configuration.settings, generation.configuration.settings
        self._use(generation, tools)
        self._loaded = loaded
        await self._record(loaded.settings)
        tools.log_faults()
        return Reloaded("\n\n".join(_told(changed(before, after), changed(after, loaded.settings), tools.told)))

    async def serve(self, part: Callable[[Settings], T], service: Callable[[T], Awaitable[None]]) -> None:
        """Runs the service with a part of the settings, and anew whenever a reload has changed that part."""
        while True:
            given = part(self.generation.configuration.settings)
            with suppress(Interrupted):
                await race(_for_good(service(given)), self._until_other(part, given))

    async def _until_other(self, part: Callable[[Settings], T], given: T) -> None:
        while part(self.generation.configuration.settings) == given:
            await self._changed.wait()

    async def _prepare(self) -> tuple[Configuration, Generation, OwnTools]:
        """The settings as they are written, what is made of them, and the operator's tools. Whatever it raises, nothing
        has changed then; `Refused` says what the operator can do."""
        if self._former >= MAX_FORMER:
            raise Refused(
                f"running tasks still use {MAX_FORMER} earlier configurations. Wait until they end, or stop them"
            )
        running = self.generation.configuration
        try:
            loaded = await asyncio.to_thread(self._load, running.home)
            self._watcher.loaded(loaded)
            self._permanent.mask.learn(secret.get_secret_value() for secret in every_secret(loaded.settings))
            settings = in_force(running.settings, loaded.settings)
            self._require_channels(settings)
            generation = await build_generation(Configuration(settings, loaded.file, loaded.home), self._permanent)
        except (ConfigurationError, HookError, ContextError, OSError) as error:
            raise Refused(str(error)) from None
        try:
            await self._try(generation)
            tools = self._permanent.own.after(generation.configuration)
            await asyncio.to_thread(tools.load)
        except BaseException:
            await generation.stack.aclose()
            raise
        return loaded, generation, tools

    def _load(self, home: Path) -> Configuration:
        loaded = load(self._loaded.file, self._environ, home)
        if loaded.file is not None and not loaded.file.read_bytes().strip():
            # As while an editor writes it: the defaults would close every channel.
            raise Refused(f"{loaded.file} is empty. Write the settings into it, or restart to go on with the defaults")
        return loaded

    def _require_channels(self, settings: Settings) -> None:
        others = self._channels.keys() - self.generation.platforms.keys()
        if not (settings.channels or others):
            raise Refused("no channel is enabled")
        if names := without_web_server(settings):
            raise Refused(
                f"channels.{names[0]}: its platform posts messages to the web server, which runs from the next start on"
            )

    async def _try(self, generation: Generation) -> None:
        """Finds what would only fail in use. Raises `Refused`."""
        for name, channel in generation.platforms.items():
            if isinstance(channel, BrokenChannel) and self.generation.platforms.get(name) is not channel:
                raise Refused(f"channels.{name}: {channel.problem}")
        channels = {*self._channels, *generation.platforms}
        agents = generation.configured.agents

        def build() -> None:
            for channel in channels:
                for name in agents.named:
                    agents.of(name, Address(channel, "", "", kind="direct"))

        try:
            await asyncio.to_thread(build)
        except (OSError, UnicodeDecodeError) as error:
            raise Refused(f"an agent cannot be made: {error}") from error

    @property
    def _channels(self) -> Mapping[str, Channel]:
        return {} if self.gateway is None else self.gateway.channels

    def _use(self, generation: Generation, tools: OwnTools) -> None:
        """The moment of the change. Never waits."""
        gateway, former = self.gateway, self.generation
        assert gateway is not None, "there is no gateway yet"
        others = {name: channel for name, channel in gateway.channels.items() if name not in former.platforms}
        replaced = [each for name, each in former.platforms.items() if generation.platforms.get(name) is not each]
        at_work = gateway.at_work().union(*(gateway.at_work_on(channel) for channel in replaced))
        self.generation = generation
        self._permanent.own.use(tools)
        self._permanent.signals.tool_labels.use(generation.configuration.settings.mcp)
        self._webhooks.use(generation.configuration.settings, generation.platforms)
        gateway.use(generation.configured, {**others, **generation.platforms})
        self._watcher.in_force(generation.configuration)
        self._changed.set()
        self._changed = asyncio.Event()
        self._former += 1
        self._closing.start(partial(self._close, former, at_work))

    async def _close(self, former: Generation, at_work: frozenset[asyncio.Future[None]]) -> None:
        """Once nothing that began with it runs."""
        try:
            if at_work:
                await asyncio.wait(at_work)
        finally:
            self._former -= 1
            await former.stack.aclose()

    async def _record(self, settings: Settings) -> None:
        try:
            await audit_settings(settings, self._permanent.store)
        except StoreError as error:
            log.error("the changed settings are not in the audit log: %s", error)


async def _for_good(service: Awaitable[None]) -> None:
    """Also a service that has nothing to do is there until it is cancelled."""
    await service
    await asyncio.Event().wait()


async def audit_settings(settings: Settings, store: Store) -> None:
    """Records in the audit log which settings were changed since they were recorded last."""
    salt = await store.settings_salt() or token_hex(8)
    hashes = fingerprints(settings, salt)
    await store.record_settings(salt, hashes, fingerprint(hashes))


def _refused(problems: str) -> Reloaded:
    lines = "\n".join(f"- {code(line)}" for line in problems.splitlines())
    return Reloaded(f"⚠️ Not reloaded, everything stays as it was:\n\n{lines}", is_refused=True)


def _told(now: Sequence[str], at_start: Sequence[str], tools: str) -> Iterator[str]:
    yield f"Settings changed: {_listed(now)}." if now else "No setting has changed."
    if at_start:
        yield f"Changed too, but these take effect at the next start: {_listed(at_start)}."
    if tools:
        yield tools


def _listed(keys: Sequence[str]) -> str:
    named = ", ".join(map(code, keys[:MAX_NAMED]))
    return f"{named} and {len(keys) - MAX_NAMED} more" if len(keys) > MAX_NAMED else named

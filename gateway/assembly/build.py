"""From settings to a gateway. With its siblings in this package, the only reader of settings; all other parts get
arguments."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from agent.masking import Mask
from channels.channel import Channel
from channels.programs import ProgramChannel
from channels.web.channel import WebChannel
from config.load import Configuration
from config.settings import every_secret
from gateway.app import Gateway
from gateway.assembly.channels import WEB, Webhooks, access
from gateway.assembly.custom_tools import own_tools
from gateway.assembly.events import Following, run_webhooks
from gateway.assembly.generation import Generation, Permanent, build_generation
from gateway.assembly.hooks import hook_problems
from gateway.assembly.load_ahead import load_ahead
from gateway.assembly.mcp import SignInLinks, mcp_problems
from gateway.assembly.media import media_blobs, missing_media
from gateway.assembly.reload import NoWatcher, SettingsReload, Watcher, audit_settings
from gateway.assembly.signals import ConfiguredSignals
from gateway.assembly.web import exposure, link, server_app, site
from gateway.assembly.workers import Workers, join_workers
from gateway.assembly.workspaces import has_shared_media, workspace_sync
from gateway.lifecycle.recent_log import recent_log
from gateway.lifecycle.retention import keep_retention
from gateway.lifecycle.shared_parts import SharedParts
from gateway.lifecycle.supervision import Service
from gateway.media import Media
from gateway.private_files import private_file, private_folder
from gateway.store import Store, open_store
from gateway.web.connections import default_limits
from gateway.web.http_server import HttpServer, bind
from gateway.web.token import OwnerToken, WebToken, open_stored_token

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Built:
    """A gateway ready to run, the services to run beside it, and the web chat's sign-in link (None: it is off)."""

    gateway: Gateway
    services: tuple[Service, ...]
    link: str | None


@asynccontextmanager
async def build(
    configuration: Configuration,
    *extra: Channel,
    environ: Mapping[str, str] = os.environ,
    watcher: Watcher = NoWatcher(),  # noqa: B008  # it has no state
) -> AsyncIterator[Built]:
    """Opens the store and builds the gateway; `extra` are channels without settings, such as a terminal. A reload
    reads the settings with `environ`; `watcher` is told of the gateway and of reloads.

    Raises `StoreError`, `HookError`, `ContextError`, `ExtraMissing`, `PortTaken` and `OSError` with messages for
    people.
    """
    settings = configuration.settings
    # Conversations are private to the operator's account.
    private_folder(configuration.home)
    for file in configuration.home.iterdir():
        if file.is_file() and not file.is_symlink():
            private_file(file)
    async with AsyncExitStack() as stack:
        signals = ConfiguredSignals(settings)
        stack.push_async_callback(signals.aclose)
        store = await stack.enter_async_context(
            open_store(settings.store.url, committed=signals.tell, lease=settings.store.lease)
        )
        workers = await stack.enter_async_context(join_workers(store, settings.store, signals.tell))
        await audit_settings(settings, store)
        listener = address = None
        token: OwnerToken | None = None
        if settings.web.enabled:
            listener = bind(settings.web.host, settings.web.port)
            stack.callback(listener.close)
            token = await _open_token(configuration, store)
            address = link(listener, token())
        permanent = await _permanent(configuration, store, signals, token, address, workers.bus.released)
        watcher.begun(permanent.mask)
        stack.push_async_callback(permanent.links.settle)
        webhooks = Webhooks()
        generation = await build_generation(configuration, permanent)
        reload = SettingsReload(generation, permanent, webhooks, environ, watcher)
        await stack.enter_async_context(reload)
        gateway = reload.gateway = _gateway(generation, permanent, reload, workers)
        for channel in generation.platforms.values():
            gateway.add(channel, closes=False)
        for channel in extra:
            gateway.add(channel)
        following = await stack.enter_async_context(Following(gateway))
        services: list[Service] = [
            partial(
                reload.serve,
                lambda settings: settings.webhooks,
                partial(run_webhooks, gateway, following, workers.connectors, settings.store.lease),
            ),
            partial(load_ahead, generation.ahead),
            generation.configured.workspaces.remove_leftovers,
            partial(_sweep, permanent.media),
            *([partial(_look_for_files, configuration, store)] if store.is_shared else ()),
            *([permanent.sync.follow_deletions] if has_shared_media(configuration) else ()),
            *([partial(_expire_upgrade_backups, settings.store.file)] if settings.store.file is not None else ()),
            partial(keep_retention, gateway.deletion, lambda: reload.generation.retention),
        ]
        if listener is not None and token is not None:
            if warning := exposure(settings.web):
                log.warning("%s", warning)
            gateway.add(WebChannel(WEB, permanent.media))
            gateway.add(ProgramChannel(permanent.media))
            gateway.logins.url = settings.web.url or ""
            gateway.logins.local_url = (address or "").partition("/?")[0]
            watched, beside = signals.serve(gateway, token.current)
            services += beside
            limits = default_limits(behind_proxy=settings.web.url is not None)
            make_site = partial(
                site,
                gateway,
                token.current,
                settings.web,
                following,
                permanent.links,
                configuration=lambda: reload.generation.configuration,
                log=stack.enter_context(recent_log(gateway.mask)),
            )
            server = await stack.enter_async_context(
                HttpServer(partial(server_app, watched, webhooks, make_site), listener, limits)
            )
            services.append(server.start)
        await stack.enter_async_context(gateway)
        yield Built(gateway, tuple(services), address)


async def _permanent(
    configuration: Configuration,
    store: Store,
    signals: ConfiguredSignals,
    token: OwnerToken | None,
    address: str | None,
    changed: Callable[[], None],
) -> Permanent:
    """`token` is that of the web chat's owner, `address` the web server's on this machine; None without one. `changed`
    tells other workers to look."""
    settings = configuration.settings
    mask = Mask(secret.get_secret_value() for secret in every_secret(settings))
    if token is not None:
        mask.follow(partial(_only, token))
    policy = access(settings)
    local = None if address is None else address.partition("/?")[0]
    public = None if address is None else settings.web.url
    links = SignInLinks(configuration, store, policy, mask, public_url=public, local_url=local, changed=changed)
    own = await asyncio.to_thread(own_tools, configuration, mask)
    signals.tool_labels.own, signals.mask = own, mask
    media = Media(media_blobs(configuration), store)
    sync = workspace_sync(configuration, store, media)
    return Permanent(store, media, mask, policy, links, own, signals, SharedParts(), sync)


async def _open_token(configuration: Configuration, store: Store) -> OwnerToken:
    """Raises `StoreError` and `OSError`."""
    return await open_stored_token(store, configuration.home) if store.is_shared else WebToken(configuration.home)


def _only(token: OwnerToken) -> tuple[str]:
    return (token(),)


def _gateway(generation: Generation, permanent: Permanent, reload: SettingsReload, workers: Workers) -> Gateway:
    """The gateway without its channels."""
    first, own = generation.configured, permanent.own
    gateway = Gateway(
        permanent.store,
        permanent.media,
        permanent.policy,
        first.agents,
        first.options,
        bus=workers.bus,
        connectors=workers.connectors,
        lease=workers.lease,
        watch=permanent.signals.tell,
        hooks=first.hooks,
        mask=permanent.mask,
        small=first.small,
        estimate=first.estimate,
        workspaces=first.workspaces,
        files=first.files,
        reload=reload.reload,
        tool_problems=lambda: {
            **own.problems(),
            **mcp_problems(gateway.mcp.shared, own.listed),
            **hook_problems(reload.generation.hooks),
        },
        mcp=first.mcp,
        read_file=first.read_file,
        remove_files=permanent.media.remove,
    )
    return gateway


async def _expire_upgrade_backups(database: Path) -> None:
    """Deletes those of them that are too old, once a day, beginning an hour after the start."""
    await asyncio.sleep(3600)
    from gateway.store.upgrade_backup import delete_old_backups  # loads what makes backups, which few starts need

    while True:
        await asyncio.to_thread(delete_old_backups, database)
        await asyncio.sleep(24 * 3600)


async def _look_for_files(configuration: Configuration, store: Store) -> None:
    """Warns of a place for files that other workers do not share."""
    try:
        blobs = await asyncio.to_thread(media_blobs, configuration)
        missing = await missing_media(configuration.settings.media, blobs, store.newest_media)
    except OSError as error:
        log.warning("whether the files of other workers are found here is not known: %s", error)
    else:
        if missing is not None:
            log.warning("%s", missing)


async def _sweep(media: Media) -> None:
    """Deletes unreferenced files once a day."""
    while True:
        await asyncio.sleep(24 * 3600)
        await media.sweep(older_than=timedelta(days=1))

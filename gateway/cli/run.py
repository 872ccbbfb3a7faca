"""`interject run`: the gateway, from its start to the signal that ends it."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import time
from functools import partial

from agent.context.manager import ContextError
from agent.hooks.runner import HookError
from channels.channel import ChannelError
from config.load import Configuration
from gateway.app import Gateway
from gateway.assembly.build import build
from gateway.assembly.signals import ExtraMissing
from gateway.cli.banner import banner
from gateway.cli.event_loop import CancelOnSignal, RunOnSignal, run_in_loop
from gateway.cli.home import HomeBusy, describe_error, held
from gateway.cli.instance_file import published
from gateway.cli.logs import LogOfGateway, log_to, secrets_in
from gateway.cli.memory import hide_memory
from gateway.cli.program import program
from gateway.cli.reload_socket import answering
from gateway.cli.standard_streams import discard_unwritable
from gateway.cli.web_token import sign_in_link
from gateway.cli.writable_folders import remove_old_temporary_files, use_writable_folders
from gateway.lifecycle.systemd import Systemd
from gateway.lifecycle.worker_lease import LeaseLost
from gateway.store.errors import StoreError
from gateway.web.http_server import PortTaken

log = logging.getLogger(__name__)


def run(configuration: Configuration) -> int:
    """Returns the exit code: 0 when a signal ended it, 1 when it could not start."""
    hide_memory()
    if hasattr(signal, "SIGHUP"):
        # Until the event loop runs; then it reloads.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    log_to(sys.stderr, secrets_in(configuration), configuration.settings.logging)
    try:
        use_writable_folders(configuration.home)
        with held(configuration):
            return _run(configuration)
    except (HomeBusy, StoreError, HookError, ContextError, ExtraMissing, PortTaken, ChannelError, OSError) as error:
        sys.stderr.write(f"interject: {describe_error(error, configuration.home)}\n")
        return 1


def _run(configuration: Configuration) -> int:
    while True:
        try:
            return run_in_loop(_serve(configuration))
        except* LeaseLost:
            log.warning("other workers take this one for dead: it begins again as another one")


async def _serve(configuration: Configuration) -> int:
    grace = configuration.settings.agent.shutdown_grace
    started = time.time()
    systemd = Systemd()
    with RunOnSignal() as reloads, CancelOnSignal(signal.SIGINT, signal.SIGTERM, grace=grace):
        async with (
            build(configuration, watcher=LogOfGateway()) as built,
            answering(configuration.home, built.gateway.reload),
        ):
            with published(configuration.home, built.link):
                _show(banner(configuration, sign_in_link(configuration, built.link), program()))
                remove_old_temporary_files(configuration.home, before=started)
                gc.freeze()
                gc.enable()
                reload = partial(_reload, built.gateway, systemd)
                await built.gateway.run(*built.services, partial(reloads.run, reload), systemd.run)
    return 0


def _show(text: str) -> None:
    """Prints it; the gateway runs without a place to print to, too."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except OSError as error:
        discard_unwritable()
        log.warning("standard output cannot be written (%s): nothing is printed there", error.strerror)


async def _reload(gateway: Gateway, systemd: Systemd) -> None:
    try:
        with systemd.reloading():
            await gateway.reload()
    except Exception:
        # Whatever fails, the gateway goes on with what it has.
        log.exception("the reload failed")

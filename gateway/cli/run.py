"""`interject run`: the gateway, from its start to the signal that ends it."""

from __future__ import annotations

import gc
import signal
import sys

from agent.hooks.runner import HookError
from channels.channel import ChannelError
from config.load import Configuration
from gateway.assembly.build import build
from gateway.cli.banner import banner
from gateway.cli.event_loop import CancelOnSignal, run_in_loop
from gateway.cli.home import describe_error
from gateway.cli.instance_file import published
from gateway.cli.logs import log_to, secrets_in
from gateway.cli.memory import hide_memory
from gateway.cli.web_token import sign_in_link
from gateway.store.errors import StoreError
from gateway.web.http_server import PortTaken


def run(configuration: Configuration) -> int:
    """Returns the exit code: 0 when a signal ended it, 1 when it could not start."""
    hide_memory()
    log_to(sys.stderr, secrets_in(configuration))
    try:
        return run_in_loop(_serve(configuration))
    except (StoreError, HookError, PortTaken, ChannelError, OSError) as error:
        sys.stderr.write(f"interject: {describe_error(error, configuration.home)}\n")
        return 1


async def _serve(configuration: Configuration) -> int:
    with CancelOnSignal(signal.SIGINT, signal.SIGTERM, grace=configuration.settings.agent.shutdown_grace):
        async with build(configuration) as built:
            with published(configuration.home, built.link):
                sys.stdout.write(f"{banner(configuration, sign_in_link(configuration, built.link))}\n")
                sys.stdout.flush()
                gc.freeze()
                gc.enable()
                await built.gateway.run(*built.services)
    return 0

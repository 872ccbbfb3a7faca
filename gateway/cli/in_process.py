"""A gateway inside the process of `interject chat`, for when no other gateway is running."""

from __future__ import annotations

from contextlib import AsyncExitStack

from channels.channel import ChannelRejected
from channels.terminal.channel import TerminalChannel
from channels.terminal.screen import Screen
from config.load import Configuration
from gateway.assembly.build import Built, build
from gateway.assembly.signals import ExtraMissing
from gateway.cli.home import HomeBusy, held
from gateway.cli.instance_file import published
from gateway.cli.logs import LogOfGateway
from gateway.cli.memory import hide_memory
from gateway.store.errors import StoreError
from gateway.web.http_server import PortTaken


async def run_with_terminal(configuration: Configuration, screen: Screen) -> None:
    """Runs the configured gateway with a terminal as one more channel. Raises `ChannelRejected` or `OSError`."""
    hide_memory()
    async with AsyncExitStack() as stack:
        try:
            stack.enter_context(held(configuration))
            built = await _build(configuration, stack)
        except (HomeBusy, StoreError, ExtraMissing) as error:
            raise ChannelRejected(str(error)) from error
        built.gateway.add(TerminalChannel(screen, built.gateway.media))
        stack.enter_context(published(configuration.home, built.link))
        await built.gateway.run(*built.services)


async def _build(configuration: Configuration, stack: AsyncExitStack) -> Built:
    """Without the web chat if its port is taken: a terminal works without it."""
    try:
        return await stack.enter_async_context(build(configuration, watcher=LogOfGateway()))
    except PortTaken:
        return await stack.enter_async_context(build(_without_web(configuration), watcher=LogOfGateway()))


def _without_web(configuration: Configuration) -> Configuration:
    settings = configuration.settings
    web = settings.web.model_copy(update={"enabled": False})
    return Configuration(settings.model_copy(update={"web": web}), configuration.file, configuration.home)

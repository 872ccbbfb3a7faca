"""A gateway in the terminal's own process, for when none runs."""

from __future__ import annotations

from contextlib import AsyncExitStack

from channels.channel import ChannelRejected
from channels.terminal.channel import TerminalChannel
from channels.terminal.screen import Screen
from config.load import Configuration
from gateway.assembly.build import Built, build
from gateway.cli.instance_file import announced
from gateway.media import DiskMedia
from gateway.store.errors import StoreError
from gateway.web.http_server import PortTaken


async def talk_within(configuration: Configuration, screen: Screen) -> None:
    """Everything that the settings say runs, with a terminal beside it. Raises `ChannelRejected` or `OSError`."""
    async with AsyncExitStack() as stack:
        try:
            built = await _build(configuration, stack)
        except StoreError as error:
            raise ChannelRejected(str(error)) from error
        media = DiskMedia(configuration.settings.media.path, built.gateway.store)
        built.gateway.add(TerminalChannel(screen, media))
        stack.enter_context(announced(configuration.home, built.link))
        await built.gateway.run(*built.services)


async def _build(configuration: Configuration, stack: AsyncExitStack) -> Built:
    """Whoever wants to chat in a terminal can do without the web chat, when its port is taken."""
    try:
        return await stack.enter_async_context(build(configuration))
    except PortTaken:
        return await stack.enter_async_context(build(_without_web(configuration)))


def _without_web(configuration: Configuration) -> Configuration:
    settings = configuration.settings
    web = settings.web.model_copy(update={"enabled": False})
    return Configuration(settings.model_copy(update={"web": web}), configuration.file, configuration.home)

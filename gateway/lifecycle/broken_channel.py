"""A placeholder for a channel that could not be created: the others go on, and `/status` names it."""

from __future__ import annotations

from channels.address import Address
from channels.channel import ChannelRejected, CommandHelp, Ledger, Unreachable
from channels.message import Deliver, FileRef, MessageStatus, ThreadRoot
from channels.reply import Reply


class BrokenChannel:
    """Implements `channels.channel.Channel`. Its replies wait until its settings are corrected."""

    def __init__(self, name: str, reason: ChannelRejected) -> None:
        self.name = name
        self.problem = str(reason)

    async def listen(self, deliver: Deliver, commands: tuple[CommandHelp, ...]) -> None:
        raise ChannelRejected(self.problem)

    async def show_commands(self, commands: tuple[CommandHelp, ...]) -> None:
        """Nothing is shown."""

    async def fetch(self, file: FileRef) -> bytes:
        raise Unreachable(self.problem)

    async def thread_root(self, address: Address, message_id: str) -> ThreadRoot | None:
        raise Unreachable(self.problem)

    async def show(self, reply: Reply, ledger: Ledger) -> None:
        raise Unreachable(self.problem)

    async def typing(self, address: Address) -> None:
        pass

    async def direct_chat(self, person: str) -> str | None:
        return None

    async def show_status(self, status: MessageStatus) -> None:
        pass

    def pace(self, address: Address) -> float:
        return 1.0

    async def aclose(self) -> None:
        pass

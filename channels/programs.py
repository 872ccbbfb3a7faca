"""The channel of programs with a client of OpenAI's API: their conversations are kept apart from people's."""

from __future__ import annotations

from agent.media import MediaStore
from channels.address import Address
from channels.web.channel import WebChannel

NAME = "api"


def address_of(conversation: str) -> Address:
    """The address of a program's conversation with this name."""
    return Address(NAME, "local", conversation)


class ProgramChannel(WebChannel):
    """Programs read answers through the API, as the web page does."""

    def __init__(self, media: MediaStore) -> None:
        super().__init__(NAME, media)

"""What is typed in a terminal, as a message."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from channels.address import Address
from channels.message import InboundMessage
from channels.terminal.parse import Said, parse
from channels.terminal.screen import say

HERE = Address("terminal", "local", "main")
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def heard(text: str) -> InboundMessage | None:
    return parse(Said("id-1", text), HERE, NOW)


def test_words_become_a_message_of_the_owner_under_their_own_id() -> None:
    message = heard("  two\nlines ")
    assert message is not None
    assert (message.kind, message.text, message.command) == ("new", "two\nlines", None)
    assert (message.event_id, message.message_id, message.address, message.sender.id) == ("id-1", "id-1", HERE, "owner")


@pytest.mark.parametrize(
    ("typed", "command", "arguments"),
    [
        ("/stop", "stop", ""),
        ("/New please\nnow", "new", "please\nnow"),
        (" /help ", "help", ""),
    ],
)
def test_a_slash_and_a_name_is_a_command(typed: str, command: str, arguments: str) -> None:
    message = heard(typed)
    assert message is not None
    assert (message.kind, message.command, message.text) == ("command", command, arguments)


@pytest.mark.parametrize("typed", ["/usr/bin is a path", "/ alone", "//", "see /help"])
def test_other_slashes_are_words(typed: str) -> None:
    message = heard(typed)
    assert message is not None
    assert (message.kind, message.text) == ("new", typed)


@pytest.mark.parametrize("typed", ["", "  \n\t ", "\0"])
def test_nothing_is_no_message(typed: str) -> None:
    assert heard(typed) is None


def test_what_no_database_takes_is_taken_out() -> None:
    message = heard("a\0b \udcff c")
    assert message is not None
    assert message.text == "ab ? c"


def test_no_two_sayings_have_one_id() -> None:
    assert len({say("the same").id for _ in range(1000)}) == 1000

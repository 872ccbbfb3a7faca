"""What a post becomes."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.media import Attachment
from channels.address import Address
from channels.web.parse import BadPost, Post, attachment_of, clean_name, parse, parse_address

NOW = datetime(2026, 5, 4, tzinfo=UTC)
HERE = Address("web", "local", "chat-1")


def test_a_text_becomes_a_new_message_whose_ids_are_the_clients():
    message = parse(Post("client-0001", "Hello **you**"), HERE, NOW)
    assert (message.kind, message.text, message.event_id, message.message_id) == (
        "new",
        "Hello **you**",
        "client-0001",
        "client-0001",
    )
    assert (message.sender.id, message.sender.name, message.addressed) == ("owner", "You", True)


@pytest.mark.parametrize(
    ("text", "command", "arguments"),
    [
        ("/stop", "stop", ""),
        ("/Stop  ", "stop", ""),
        ("/new start over", "new", "start over"),
        ("/note two\nlines", "note", "two\nlines"),
    ],
)
def test_a_slash_and_a_word_are_a_command(text, command, arguments):
    message = parse(Post("client-0001", text), HERE, NOW)
    assert (message.kind, message.command, message.text) == ("command", command, arguments)


@pytest.mark.parametrize("text", ["/usr/bin/python fails", "/ hello", "//", "1/2", "see /stop"])
def test_a_path_or_a_fraction_is_no_command(text):
    message = parse(Post("client-0001", text), HERE, NOW)
    assert (message.kind, message.command, message.text) == ("new", None, text)


def test_files_carry_their_attachment_and_need_no_words():
    attachment = Attachment("ab" * 32, "naïve.png", "image/png", 12, 3, 4)
    (file,) = parse(Post("client-0001", "", (attachment,)), HERE, NOW).files
    assert attachment_of(file) == attachment
    assert (file.name, file.media_type, file.size) == ("naïve.png", "image/png", 12)


@pytest.mark.parametrize(
    "posted",
    [
        Post("client-0001", " \n"),
        Post("short", "hi"),
        Post("", "hi"),
        Post("x" * 65, "hi"),
        Post("a b c d e", "hi"),
    ],
)
def test_an_empty_message_or_an_impossible_id_is_refused_in_words(posted):
    with pytest.raises(BadPost, match=r"\w+ \w+"):
        parse(posted, HERE, NOW)


@pytest.mark.parametrize("chat", ["", "../etc", "a b", "x" * 65, "ü"])
def test_a_conversation_has_a_plain_id(chat):
    with pytest.raises(BadPost):
        parse_address("web", chat)


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("C:\\Users\\me\\plan.pdf", "plan.pdf"),
        ("../../etc/passwd", "passwd"),
        ("a\x00b\nc.txt", "abc.txt"),
        ("evil\u202egpj.exe", "evilgpj.exe"),
        ("...", "file"),
        ("", "file"),
        (None, "file"),
        ("x" * 300 + ".png", "x" * 116 + ".png"),
    ],
)
def test_a_files_name_is_made_safe_to_show_and_to_save_under(given_name, kept):
    assert clean_name(given_name) == kept


@settings(deadline=None)
@given(st.text(st.characters(codec=None, exclude_categories=[])))
def test_whatever_is_typed_can_be_stored_as_utf8(text):
    try:
        message = parse(Post("client-0001", text), HERE, NOW)
    except BadPost:
        return
    assert "\0" not in message.text
    message.text.encode()
    clean_name(text).encode()

"""What is typed in a terminal, as a message."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from channels.address import Address
from channels.message import InboundMessage
from channels.reply import QuestionSegment, Reply
from channels.terminal.attaching import CannotAttach, attached, named_files, read_attached
from channels.terminal.parse import TypedMessage, open_question, parse
from channels.terminal.screen import new_message

HERE = Address("terminal", "local", "main")
NOW = datetime(2026, 11, 21, tzinfo=UTC)
QUESTION = QuestionSegment("q:4f0c_3_0", "Which?", ("Red", "Blue"))


def heard(text: str, asked: QuestionSegment | None = None) -> InboundMessage | None:
    return parse(TypedMessage("id-1", text), HERE, NOW, asked)


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


@pytest.mark.parametrize(("typed", "option"), [("1", "0"), (" 2 ", "1"), ("02", "1")])
def test_the_number_of_an_option_chooses_it(typed: str, option: str) -> None:
    message = heard(typed, QUESTION)
    assert message is not None
    assert (message.kind, message.command, message.text) == ("command", "answer", f"q:4f0c_3_0 {option}")


@pytest.mark.parametrize("typed", ["0", "3", "1 or 2", "Blue", "-1", "1.5", "²", "9" * 5000])
def test_other_words_answer_a_question_as_they_are(typed: str) -> None:
    message = heard(typed, QUESTION)
    assert message is not None
    assert (message.kind, message.text) == ("new", typed)


@pytest.mark.parametrize("asked", [None, QuestionSegment("q:4f0c_3_0", "How many?")])
def test_where_nothing_is_to_choose_a_number_is_a_number(asked: QuestionSegment | None) -> None:
    message = heard("1", asked)
    assert message is not None
    assert (message.kind, message.text) == ("new", "1")


def test_the_question_to_answer_is_the_first_that_is_open() -> None:
    closed = QuestionSegment("q:4f0c_2_0", "Sure?", ("Yes",), open=False)
    reply = Reply("r1", HERE, None, (closed, QUESTION, QuestionSegment("q:4f0c_3_1", "When?")), parked=True)
    assert open_question([Reply("r0", HERE, None, (closed,)), reply]) == QUESTION
    assert open_question([Reply("r1", HERE, None, (QUESTION,), done=True)]) is None


@pytest.mark.parametrize("typed", ["", "  \n\t ", "\0"])
def test_nothing_is_no_message(typed: str) -> None:
    assert heard(typed) is None


def test_what_no_database_takes_is_taken_out() -> None:
    message = heard("a\0b \udcff c")
    assert message is not None
    assert message.text == "ab ? c"


def test_no_two_sayings_have_one_id() -> None:
    assert len({new_message("the same").id for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("{0}/chart.png", ["chart.png"]),
        ("  {0}/annual report.pdf ", ["annual report.pdf"]),
        ("{0}/annual\\ report.pdf '{0}/chart.png'", ["annual report.pdf", "chart.png"]),
        ("{0}/Ann's.txt", ["Ann's.txt"]),
        ('"{0}/Ann\'s.txt" {0}/chart.png', ["Ann's.txt", "chart.png"]),
    ],
)
def test_files_are_named_as_in_a_shell(tmp_path: Path, written: str, names: list[str]) -> None:
    for name in ("chart.png", "annual report.pdf", "Ann's.txt"):
        (tmp_path / name).write_bytes(b"data")
    files = named_files(f"/attach {written.format(tmp_path)}")
    assert files is not None
    assert [(file.name, file.size, read_attached(file)) for file in files] == [(name, 4, b"data") for name in names]


@pytest.mark.parametrize(
    ("name", "shown"),
    [(b"caf\xe9.txt", "caf?.txt"), ("50 % \U0001f600.txt".encode(), "50 % \U0001f600.txt"), (b"a\nb.txt", "a\nb.txt")],
)
def test_a_file_with_any_name_is_read_and_can_be_stored(tmp_path: Path, name: bytes, shown: str) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    with open(path, "wb") as file:
        file.write(b"data")
    [found] = attached([os.fsdecode(path)])
    assert (found.name, read_attached(found)) == (shown, b"data")
    assert found.ref.isascii()
    os.unlink(path)
    with pytest.raises(CannotAttach, match="cannot be read: No such file") as raised:
        read_attached(found)
    assert str(raised.value).encode()


@pytest.mark.parametrize("text", ["look", "/attachments x", "please /attach x", "/steer /attach x"])
def test_other_texts_name_no_files(text: str) -> None:
    assert named_files(text) is None


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("", "Write /attach and a file's path"),
        (" {0}/none.txt", "There is no file {0}/none.txt"),
        (" {0}", "{0} is a folder"),
        (" {0}/pipe", "{0}/pipe is no plain file"),
        (" {0}/Ann's none.txt", "There is no file {0}/Ann's none.txt"),
        (" ~no-such-user/x", "There is no file ~no-such-user/x"),
        (" {0}/\0", "{0}/ cannot be read: "),
        (" {0}/" + "x" * 300, "{0}/" + "x" * 300 + " cannot be read: File name too long"),
    ],
)
def test_what_cannot_be_attached_is_told(tmp_path: Path, written: str, said: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CannotAttach, match=re.escape(said.format(tmp_path))):
        named_files(f"/attach{written.format(tmp_path)}")

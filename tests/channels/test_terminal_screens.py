"""The screens: a pipe, and a real terminal's keys and escape codes."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output.vt100 import Vt100_Output

from agent.media import Attachment, MediaMissing
from channels.address import Address
from channels.channel import FileUnavailable, Ledger, Sent
from channels.message import InboundMessage, MessageState, MessageStatus, Receipt
from channels.reply import MediaSegment, QuestionSegment, Reply, Segment, TextSegment
from channels.terminal.attaching import attached
from channels.terminal.channel import TerminalChannel
from channels.terminal.inline_images import inline, protocol
from channels.terminal.printer import Folders, Printer
from channels.terminal.prompt import PromptScreen
from channels.terminal.render import Style
from channels.terminal.screen import PlainScreen, Screen

HERE = Address("terminal", "local", "main")
PNG = b"\x89PNG not really"
CHART = Attachment(sha256(PNG).hexdigest(), "chart.png", "image/png", len(PNG), 90, 40)


class NoLedger:
    """A terminal needs none: asking it for anything fails."""

    def pieces(self) -> tuple[Sent, ...]:
        raise AssertionError

    async def sending(self, key: str) -> None:
        raise AssertionError

    async def sent(self, key: str, ref: str, digest: str) -> None:
        raise AssertionError

    async def rename(self, old: str, new: str) -> None:
        raise AssertionError

    async def removed(self, key: str) -> None:
        raise AssertionError

    async def simplified(self, key: str) -> None:
        raise AssertionError

    async def undeliverable(self, key: str, reason: str) -> None:
        raise AssertionError

    def permit(self) -> None:
        """Always."""

    def failed(self, key: str) -> bool:
        raise AssertionError


class Shelf:
    """Files in memory."""

    def __init__(self, **files: bytes) -> None:
        self._files = {sha256(data).hexdigest(): data for data in files.values()}

    async def read(self, attachment: Attachment) -> bytes:
        if attachment.hash not in self._files:
            raise MediaMissing(attachment)
        return self._files[attachment.hash]


@dataclass
class Gateway:
    """The other side of the channel, played by the test."""

    channel: TerminalChannel
    heard: list[InboundMessage] = field(default_factory=list)
    ledger: Ledger = field(default_factory=NoLedger)
    broken: bool = False
    refuses: str | None = None
    bell: asyncio.Event = field(default_factory=asyncio.Event)

    async def deliver(self, message: InboundMessage) -> Receipt | None:
        if self.broken:
            raise OSError("the disk is full")
        self.heard.append(message)
        self.bell.set()
        return Receipt(len(self.heard), refused=self.refuses)

    async def hear(self, count: int = 1) -> InboundMessage:
        await until(lambda: len(self.heard) >= count)
        return self.heard[count - 1]

    async def mark(self, message: InboundMessage, state: MessageState) -> None:
        await self.channel.show_status(MessageStatus(HERE, self.heard.index(message) + 1, None, state))

    async def show(
        self,
        message: InboundMessage,
        *segments: Segment,
        status: str = "",
        done: bool = False,
        parked: bool = False,
    ) -> None:
        reply = Reply(f"run-{message.event_id}", HERE, message.message_id, segments, status, done, parked)
        await self.channel.show(reply, self.ledger)

    async def answer(self, message: InboundMessage, *segments: Segment) -> None:
        await self.mark(message, "read")
        await self.mark(message, "answered")
        await self.show(message, *segments, done=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - a terminal's output rings no bell
            await asyncio.sleep(0.005)


@asynccontextmanager
async def talking(screen: Screen, files: Shelf) -> AsyncIterator[tuple[Gateway, asyncio.Task[None]]]:
    gateway = Gateway(TerminalChannel(screen, files))
    listening = asyncio.create_task(gateway.channel.listen(gateway.deliver, ()))
    running = asyncio.create_task(screen.run())
    try:
        yield gateway, running
    finally:
        for task in (listening, running):
            task.cancel()
        await asyncio.gather(listening, running, return_exceptions=True)


# --- a pipe ---


@dataclass
class Pipe:
    out: list[str] = field(default_factory=list)
    secondary: list[str] = field(default_factory=list)

    def screen(self, tmp_path: Path, *texts: str) -> PlainScreen:
        async def source() -> AsyncIterator[str]:
            for text in texts:
                yield text

        async def out(text: str) -> None:
            self.out.append(text)

        async def secondary(text: str) -> None:
            self.secondary.append(text)

        place = Folders(tmp_path / "pictures", tmp_path / "files")
        return PlainScreen(Printer(out, Style, place, secondary=secondary), source())


async def test_a_pipe_says_its_text_prints_the_answer_and_ends(tmp_path: Path) -> None:
    pipe = Pipe()
    async with talking(pipe.screen(tmp_path, "hi\n"), Shelf()) as (gateway, running):
        message = await gateway.hear()
        assert message.text == "hi"
        await gateway.show(message, TextSegment("t1", "Hel", open=True))
        await gateway.answer(message, TextSegment("t1", "Hello."))
        await asyncio.wait_for(running, 60)
    assert "".join(pipe.out) == "Hello.\n"
    assert pipe.secondary == []


@pytest.mark.parametrize("order", ["mark first", "reply first"])
async def test_a_pipe_waits_for_the_whole_answer_whatever_is_told_first(tmp_path: Path, order: str) -> None:
    pipe = Pipe()
    async with talking(pipe.screen(tmp_path, "one", "two"), Shelf()) as (gateway, running):
        for number, text in enumerate(("First.", "Second."), start=1):
            message = await gateway.hear(number)
            await gateway.mark(message, "read")
            await gateway.show(message, TextSegment("t1", text[:3], open=True), status="thinking")
            if order == "mark first":
                await gateway.mark(message, "answered")
                assert not running.done()
                await gateway.show(message, TextSegment("t1", text), done=True)
            else:
                await gateway.show(message, TextSegment("t1", text), done=True)
                assert not running.done()
                await gateway.mark(message, "answered")
        await asyncio.wait_for(running, 60)
    assert "".join(pipe.out) == "First.\n\nSecond.\n"


async def test_a_message_that_steers_a_reply_is_answered_by_that_reply(tmp_path: Path) -> None:
    pipe = Pipe()
    async with talking(pipe.screen(tmp_path, "more"), Shelf()) as (gateway, running):
        message = await gateway.hear()
        await gateway.mark(message, "read")
        earlier = Reply("run-0", HERE, "another message", (TextSegment("t1", "With more."),), done=True)
        await gateway.channel.show(earlier, gateway.ledger)
        await gateway.mark(message, "answered")
        await asyncio.wait_for(running, 60)
    assert "".join(pipe.out) == "With more.\n"


async def test_what_could_not_be_kept_is_told_and_counted(tmp_path: Path) -> None:
    pipe = Pipe()
    screen = pipe.screen(tmp_path, "hi")
    gateway = Gateway(TerminalChannel(screen, Shelf()), broken=True)
    running = asyncio.create_task(screen.run())
    with pytest.raises(OSError, match="the disk is full"):
        await gateway.channel.listen(gateway.deliver, ())
    await asyncio.wait_for(running, 60)
    assert "the disk is full" in "".join(pipe.secondary)
    assert screen.failures == 1


async def test_a_picture_is_saved_under_its_own_name_and_named(tmp_path: Path) -> None:
    pipe = Pipe()
    async with talking(pipe.screen(tmp_path, "draw"), Shelf(chart=PNG)) as (gateway, running):
        message = await gateway.hear()
        await gateway.answer(message, MediaSegment("m:1:0", CHART, "Cups"), TextSegment("t1", "There."))
        await asyncio.wait_for(running, 60)
    (file,) = (tmp_path / "pictures").iterdir()
    assert file.read_bytes() == PNG
    assert re.fullmatch(r"chart-[0-9a-f]{8}\.png", file.name)
    assert "".join(pipe.out) == f"Cups\npicture: {file}\n\nThere.\n"


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", ".hidden", "a\\b", "x" * 90 + ".png"])
async def test_no_file_is_saved_elsewhere(tmp_path: Path, name: str) -> None:
    given = Attachment(CHART.hash, name, "application/pdf", len(PNG))
    pipe = Pipe()
    async with talking(pipe.screen(tmp_path, "draw"), Shelf(chart=PNG)) as (gateway, running):
        await gateway.answer(await gateway.hear(), MediaSegment("m:1:0", given))
        await asyncio.wait_for(running, 60)
    assert [path.parent for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "files"]  # noqa: ASYNC240


async def test_an_unavailable_file_affects_only_its_own_line(tmp_path: Path) -> None:
    pipe = Pipe()
    async with talking(pipe.screen(tmp_path, "draw"), Shelf()) as (gateway, running):
        await gateway.answer(await gateway.hear(), MediaSegment("m:1:0", CHART), TextSegment("t1", "There."))
        await asyncio.wait_for(running, 60)
    assert "chart.png could not be saved" in "".join(pipe.out)
    assert "There." in "".join(pipe.out)


async def test_beginning_anew_is_said_first_and_its_answer_is_not_printed(tmp_path: Path) -> None:
    pipe = Pipe()
    screen = pipe.screen(tmp_path, "hi")
    screen.start_new_conversation()
    async with talking(screen, Shelf()) as (gateway, running):
        new = await gateway.hear(1)
        assert new.command == "new"
        await gateway.answer(new, TextSegment("n1", "A new conversation starts here."))
        await gateway.answer(await gateway.hear(2), TextSegment("t1", "Hello."))
        await asyncio.wait_for(running, 60)
    assert "".join(pipe.out) == "Hello.\n"


async def test_an_interrupt_stops_what_runs_and_then_the_pipe_ends(tmp_path: Path) -> None:
    pipe = Pipe()
    screen = pipe.screen(tmp_path, "work", "never said")
    async with talking(screen, Shelf()) as (gateway, running):
        work = await gateway.hear(1)
        await gateway.mark(work, "read")
        screen.interrupt()
        stop = await gateway.hear(2)
        assert stop.command == "stop"
        await gateway.answer(work, TextSegment("end", "Stopped."))
        await gateway.answer(stop, TextSegment("n1", "Stopped: shell."))
        await asyncio.wait_for(running, 60)
    assert len(gateway.heard) == 2
    assert "".join(pipe.out) == "Stopped.\n"


QUESTION = QuestionSegment("q:r_1_0", "Which?", ("Red", "Blue"))
ANSWERED = replace(QUESTION, open=False, answer="Blue")
AGAIN = QuestionSegment("q:r_2_0", "Sure?", ("Yes", "No"))


@pytest.mark.parametrize("order", ["mark first", "reply first"])
async def test_a_pipe_answers_a_question_with_its_next_text(tmp_path: Path, order: str) -> None:
    pipe = Pipe()
    async with talking(pipe.screen(tmp_path, "paint", "2\n", "of course"), Shelf()) as (gateway, running):
        paint = await gateway.hear()
        await gateway.mark(paint, "read")
        await gateway.show(paint, QUESTION, parked=True)
        number = await gateway.hear(2)
        assert (number.command, number.text) == ("answer", "q:r_1_0 1")
        if order == "mark first":
            await gateway.mark(number, "answered")
            await gateway.show(paint, QUESTION, parked=True)
            assert len(gateway.heard) == 2
        await gateway.show(paint, ANSWERED, status="thinking")
        await gateway.show(paint, ANSWERED, AGAIN, parked=True)
        if order == "reply first":
            assert len(gateway.heard) == 2
            await gateway.mark(number, "answered")
        words = await gateway.hear(3)
        assert (words.kind, words.text) == ("new", "of course")
        await gateway.mark(words, "read")
        yes = replace(AGAIN, open=False, answer="of course")
        await gateway.show(paint, ANSWERED, yes, TextSegment("t", "Done."), done=True)
        for message in (paint, words):
            await gateway.mark(message, "answered")
        await asyncio.wait_for(running, 60)
    assert "".join(pipe.out) == "Which?\n1) Red\n2) Blue\n\nSure?\n1) Yes\n2) No\n\nDone.\n"
    assert "".join(pipe.secondary).split() == ["→", "Blue", "→", "of", "course"]


async def test_a_pipe_that_has_no_answer_says_so_and_ends(tmp_path: Path) -> None:
    pipe = Pipe()
    async with talking(pipe.screen(tmp_path, "paint"), Shelf()) as (gateway, running):
        paint = await gateway.hear()
        await gateway.mark(paint, "read")
        await gateway.show(paint, QUESTION, parked=True)
        await asyncio.wait_for(running, 60)
    assert "".join(pipe.secondary) == "The question above is not answered yet.\n"


async def test_a_pipe_whose_answer_is_not_kept_may_answer_again(tmp_path: Path) -> None:
    pipe = Pipe()
    async with talking(pipe.screen(tmp_path, "paint", "1", "2"), Shelf()) as (gateway, running):
        paint = await gateway.hear()
        await gateway.mark(paint, "read")
        gateway.refuses = "not now"
        await gateway.show(paint, QUESTION, parked=True)
        assert (await gateway.hear(3)).text == "q:r_1_0 1"
        await asyncio.wait_for(running, 60)
    assert "".join(pipe.secondary).count("Not sent: not now") == 2


# --- a terminal ---


@dataclass
class Terminal:
    screen: PromptScreen
    keys: PipeInput
    written: io.StringIO

    @property
    def text(self) -> str:
        """What was written, without escape codes. The lines at the bottom are in it each time they are drawn."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.written.getvalue()).replace("\r", "")

    async def see(self, text: str) -> None:
        await until(lambda: text in self.text)

    async def press_until_seen(self, keys: str, text: str) -> None:
        """Presses again and again: the first presses may come before there is anything that they would show."""
        async with asyncio.timeout(60):
            while text not in self.text:
                self.keys.send_text(keys)
                await asyncio.sleep(0.05)


@asynccontextmanager
async def terminal(tmp_path: Path) -> AsyncIterator[Terminal]:
    written = io.StringIO()
    output = Vt100_Output(written, lambda: Size(rows=30, columns=80), enable_cpr=False)
    with create_pipe_input() as keys, create_app_session(input=keys, output=output):
        place = Folders(tmp_path / "pictures", tmp_path / "files")
        yield Terminal(PromptScreen(place, tmp_path / "history", None, color=True), keys, written)


async def test_enter_sends_and_the_answer_stands_above_the_line(tmp_path: Path) -> None:
    async with terminal(tmp_path) as here, talking(here.screen, Shelf()) as (gateway, _):
        here.keys.send_text("hello\r")
        message = await gateway.hear()
        assert message.text == "hello"
        await here.see("> hello\n")
        await gateway.answer(message, TextSegment("t1", "Good **day**."))
        await here.see("Good day.\n")
        await here.see("Enter: send")


async def test_what_is_sent_while_a_task_runs_goes_at_once(tmp_path: Path) -> None:
    async with terminal(tmp_path) as here, talking(here.screen, Shelf()) as (gateway, _):
        here.keys.send_text("work\r")
        work = await gateway.hear()
        await gateway.mark(work, "read")
        await gateway.show(work, TextSegment("t1", "I be", open=True), status="shell: sleep 3")
        await here.see("I be")
        await here.see("working: shell: sleep 3 · type to interject · Esc: stop")
        here.keys.send_text("faster\r")
        assert (await gateway.hear(2)).text == "faster"


async def test_a_question_waits_for_a_number(tmp_path: Path) -> None:
    async with terminal(tmp_path) as here, talking(here.screen, Shelf()) as (gateway, _):
        here.keys.send_text("paint\r")
        paint = await gateway.hear()
        await gateway.mark(paint, "read")
        await gateway.show(paint, QUESTION, parked=True)
        await here.see("Which?\n1) Red\n2) Blue\n")
        await here.see("waiting for your answer: a number or text · Esc: stop")
        here.keys.send_text("2\r")
        number = await gateway.hear(2)
        assert (number.command, number.text) == ("answer", "q:r_1_0 1")
        await here.see("> 2\n")
        await gateway.mark(number, "answered")
        await gateway.show(paint, ANSWERED, TextSegment("t", "Blue it is."), done=True)
        await here.see("→ Blue\n")
        await here.see("Blue it is.\n")
        await gateway.mark(paint, "answered")
        here.keys.send_text("2\r")
        assert (await gateway.hear(3)).kind == "new"


@pytest.mark.parametrize(
    ("typed", "command"), [("green\r", None), ("/stop\r", "stop"), ("\x03", "stop"), ("\x1b", "stop")]
)
async def test_a_question_may_be_answered_in_words_or_ended(tmp_path: Path, typed: str, command: str | None) -> None:
    async with terminal(tmp_path) as here, talking(here.screen, Shelf()) as (gateway, _):
        here.keys.send_text("paint\r")
        paint = await gateway.hear()
        await gateway.mark(paint, "read")
        await gateway.show(paint, QUESTION, parked=True)
        await here.see("waiting for your answer")
        here.keys.send_text(typed)
        message = await gateway.hear(2)
        assert (message.command, message.text) == (command, "" if command else "green")


async def test_a_pasted_text_keeps_its_lines(tmp_path: Path) -> None:
    async with terminal(tmp_path) as here, talking(here.screen, Shelf()) as (gateway, _):
        here.keys.send_text("\x1b[200~one\ntwo\x1b[201~\r")
        assert (await gateway.hear()).text == "one\ntwo"


async def test_alt_enter_begins_a_new_line(tmp_path: Path) -> None:
    async with terminal(tmp_path) as here, talking(here.screen, Shelf()) as (gateway, _):
        here.keys.send_text("one\x1b\rtwo\r")
        assert (await gateway.hear()).text == "one\ntwo"


@pytest.mark.parametrize("key", ["\x03", "\x1b"], ids=["Ctrl-C", "Esc"])
async def test_a_key_stops_what_runs(tmp_path: Path, key: str) -> None:
    async with terminal(tmp_path) as here, talking(here.screen, Shelf()) as (gateway, running):
        here.keys.send_text("work\r")
        await gateway.hear()
        here.keys.send_text(key)
        assert (await gateway.hear(2)).command == "stop"
        assert not running.done()


async def test_esc_stops_what_runs_and_keeps_what_is_typed(tmp_path: Path) -> None:
    async with terminal(tmp_path) as here, talking(here.screen, Shelf()) as (gateway, running):
        here.keys.send_text("work\r")
        work = await gateway.hear()
        here.keys.send_text("instead \x1b")
        stop = await gateway.hear(2)
        assert stop.command == "stop"
        await gateway.mark(stop, "answered")
        await gateway.answer(work)
        here.keys.send_text("this\r")
        assert (await gateway.hear(3)).text == "instead this"
        assert not running.done()


async def test_ctrl_c_twice_leaves_when_nothing_runs(tmp_path: Path) -> None:
    async with terminal(tmp_path) as here, talking(here.screen, Shelf()) as (gateway, running):
        await here.see("Enter: send")
        here.keys.send_text("\x03")
        await here.see("Press Ctrl-C again to quit")
        here.keys.send_text("\x03")
        await asyncio.wait_for(running, 60)
    assert gateway.heard == []


async def test_ctrl_c_empties_a_line_first(tmp_path: Path) -> None:
    async with terminal(tmp_path) as here, talking(here.screen, Shelf()) as (gateway, running):
        here.keys.send_text("a typo\x03right\r")
        assert (await gateway.hear()).text == "right"
        assert not running.done()


async def test_ctrl_d_leaves(tmp_path: Path) -> None:
    async with terminal(tmp_path) as here, talking(here.screen, Shelf()) as (_, running):
        here.keys.send_text("\x04")
        await asyncio.wait_for(running, 60)


async def test_what_was_typed_before_comes_back_with_the_arrow_and_is_private(tmp_path: Path) -> None:
    async with terminal(tmp_path) as here, talking(here.screen, Shelf()) as (gateway, _):
        here.keys.send_text("remember me\r")
        await gateway.hear()
    async with terminal(tmp_path) as here, talking(here.screen, Shelf()) as (gateway, _):
        await here.press_until_seen("\x1b[A", "remember me")
        here.keys.send_text("\r")
        assert (await gateway.hear()).text == "remember me"
    assert (tmp_path / "history").stat().st_mode & 0o777 == 0o600


async def test_a_refusal_is_told(tmp_path: Path) -> None:
    async with terminal(tmp_path) as here, talking(here.screen, Shelf()) as (gateway, _):
        gateway.broken = True
        here.keys.send_text("hello\r")
        await here.see("Not sent: the disk is full")
        await here.see("Enter: send")


# --- files of the person ---


async def test_files_go_with_the_next_message(tmp_path: Path) -> None:
    report, chart = tmp_path / "annual report.pdf", tmp_path / "chart.png"
    report.write_bytes(b"%PDF-1.4")
    chart.write_bytes(PNG)
    async with terminal(tmp_path) as here, talking(here.screen, Shelf()) as (gateway, _):
        here.keys.send_text(f"/attach {report}\r")
        await here.see("With the next message: annual report.pdf")
        here.keys.send_text(f"/attach '{chart}'\r")
        await here.see(", chart.png")
        here.keys.send_text("/status\r")
        assert (await gateway.hear()).files == ()
        here.keys.send_text("compare\r")
        message = await gateway.hear(2)
        assert [(file.name, file.media_type, file.size) for file in message.files] == [
            ("annual report.pdf", "application/pdf", 8),
            ("chart.png", "image/png", len(PNG)),
        ]
        assert await gateway.channel.fetch(message.files[1]) == PNG
        await here.see("> compare [annual report.pdf] [chart.png]")
        here.keys.send_text("and now?\r")
        assert (await gateway.hear(3)).files == ()


async def test_a_file_may_be_sent_without_words(tmp_path: Path) -> None:
    (tmp_path / "chart.png").write_bytes(PNG)
    async with terminal(tmp_path) as here, talking(here.screen, Shelf()) as (gateway, _):
        here.keys.send_text(f"/attach {tmp_path}/chart.png\r\r")
        message = await gateway.hear()
        assert (message.text, [file.name for file in message.files]) == ("", ["chart.png"])


async def test_a_path_that_names_no_file_stays_to_be_corrected(tmp_path: Path) -> None:
    (tmp_path / "chart.png").write_bytes(PNG)
    async with terminal(tmp_path) as here, talking(here.screen, Shelf()) as (gateway, _):
        here.keys.send_text(f"/attach {tmp_path}/chart.pn\rg\rlook\r")
        message = await gateway.hear()
        assert (message.text, [file.name for file in message.files]) == ("look", ["chart.png"])


async def test_ctrl_c_takes_files_back(tmp_path: Path) -> None:
    (tmp_path / "chart.png").write_bytes(PNG)
    async with terminal(tmp_path) as here, talking(here.screen, Shelf()) as (gateway, running):
        here.keys.send_text(f"/attach {tmp_path}/chart.png\r")
        await here.see("With the next message")
        here.keys.send_text("\x03")
        here.keys.send_text("hello\r")
        assert (await gateway.hear()).files == ()
        assert not running.done()


async def test_the_path_of_a_file_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chart.png").write_bytes(PNG)
    async with terminal(tmp_path) as here, talking(here.screen, Shelf()) as (gateway, _):
        here.keys.send_text("/attach cha\t")
        await here.see("rt.png")
        here.keys.send_text("\rlook\r")
        assert [file.name for file in (await gateway.hear()).files] == ["chart.png"]


async def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    (tmp_path / "chart.png").write_bytes(PNG)
    [file] = attached([f"{tmp_path}/chart.png"])
    (tmp_path / "chart.png").unlink()
    with pytest.raises(FileUnavailable, match="cannot be read: No such file"):
        await TerminalChannel(Pipe().screen(tmp_path), Shelf()).fetch(file)


# --- pictures ---


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM_PROGRAM": "WezTerm"}, "iterm2"),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/x"}, None),
        ({"TERM": "screen-256color", "TERM_PROGRAM": "iTerm.app"}, None),
        ({"TERM": "xterm-256color"}, None),
    ],
)
def test_only_terminals_that_can_are_given_pictures(environ: dict[str, str], expected: str | None) -> None:
    assert protocol(environ) == expected


def test_a_picture_for_kitty_comes_in_chunks_of_which_the_last_says_so() -> None:
    codes = inline(CHART, b"x" * 10_000, "kitty", 80)
    chunks = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", codes)
    assert [head for head, _ in chunks] == ["a=T,f=100,q=2,c=10,m=1", "m=1", "m=1", "m=0"]
    assert all(len(data) <= 4096 for _, data in chunks)


def test_a_picture_for_iterm_is_one_code() -> None:
    codes = inline(CHART, b"abc", "iterm2", 80)
    assert codes == "\x1b]1337;File=inline=1;size=3;width=10;preserveAspectRatio=1:YWJj\a\n"

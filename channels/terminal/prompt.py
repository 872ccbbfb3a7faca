"""The interactive screen: printed messages scroll up; the growing text, the input and a status line stay below."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from prompt_toolkit import Application
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import ANSI
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import BufferControl, ConditionalContainer, Dimension, FormattedTextControl, HSplit, Window
from prompt_toolkit.layout import Layout as ScreenLayout
from prompt_toolkit.layout.processors import BeforeInput

from channels.message import FileRef, MessageStatus, Receipt
from channels.reply import Reply
from channels.terminal.ansi import BOLD, DIM, printable, styled
from channels.terminal.attaching import CannotAttach, begun_path, named_files
from channels.terminal.inline_images import Protocol as PictureProtocol
from channels.terminal.message_tracker import MessageTracker
from channels.terminal.parse import TypedMessage
from channels.terminal.printer import Files, Folders, Printer
from channels.terminal.render import Style
from channels.terminal.screen import new_message

_MAX_GROWING_LINES = 12
"""Lines of the growing text shown below; it is printed above once it cannot change any more."""

_ESCAPE_PAUSE = 0.1
"""Seconds after which Esc is that key, and not the beginning of another one, which terminals send at once."""


class PromptScreen:
    """`history` is the file with the input history for the arrow keys; `files` go with the first message."""

    def __init__(
        self,
        folders: Folders,
        history: Path,
        pictures: PictureProtocol | None,
        *,
        color: bool,
        files: Sequence[FileRef] = (),
    ) -> None:
        self.failures = 0
        self._color = color
        self._printer = Printer(self._print, self._style, folders, pictures=pictures)
        self._tracker = MessageTracker()
        self._outgoing: asyncio.Queue[TypedMessage] = asyncio.Queue()
        self._problems = ""
        self._hint = ""
        self._attached = list(files)
        self._input = Buffer(
            multiline=True,
            completer=_PathOfFile(),
            history=FileHistory(_private(history)),
            accept_handler=self._accept,
            on_text_changed=self._forget_hint,
        )
        self._app: Application[None] = Application(
            ScreenLayout(self._layout(), focused_element=self._input), key_bindings=self._keys(), erase_when_done=True
        )
        self._app.timeoutlen = self._app.ttimeoutlen = _ESCAPE_PAUSE

    # Input

    def start_new_conversation(self) -> None:
        self._send(new_message("/new", quiet=True))

    async def run(self) -> None:
        await self._app.run_async()
        if self._tracker.running:
            await self._printer.print_notice(self._dim("Unfinished work goes on without you, or when you come back."))
            await self._printer.print_notice("", "line")

    def _accept(self, buffer: Buffer) -> bool:
        """Whether the text stays in the input line. Files wait for the next message that is no command."""
        try:
            files = named_files(buffer.text)
        except CannotAttach as error:
            self._hint = printable(str(error))
            return True
        if files is not None:
            self._attached += files
        elif buffer.text.lstrip().startswith("/"):
            self._send(new_message(buffer.text))
        elif buffer.text.strip() or self._attached:
            attached, self._attached = self._attached, []
            self._send(new_message(buffer.text, files=attached))
        return False

    def _forget_hint(self, buffer: Buffer) -> None:
        self._hint = ""

    def _send(self, typed: TypedMessage) -> None:
        self._hint = ""
        self._tracker.sent(typed)
        self._outgoing.put_nowait(typed)

    def _interrupt(self) -> None:
        """Ctrl-C: clears the line with its files, or stops the running task, or (twice) leaves."""
        if self._input.text or self._attached:
            self._input.reset()
            self._attached.clear()
            self._hint = ""
        elif self._tracker.running:
            self._stop()
        elif self._hint:
            self._app.exit()
        else:
            self._hint = "Press Ctrl-C again to quit"

    def _stop(self) -> None:
        if self._tracker.running:
            self._send(new_message("/stop", quiet=True))

    def _complete(self) -> None:
        if self._input.complete_state:
            self._input.complete_next()
        else:
            self._input.start_completion(insert_common_part=True)

    # Events of the gateway

    async def read(self) -> TypedMessage:
        typed = await self._outgoing.get()
        if not typed.quiet:
            await self._echo(typed)
        return typed

    async def accepted(self, typed: TypedMessage, receipt: Receipt | None) -> None:
        if receipt is None:
            await self.failed(typed, "the gateway did not store this message")
            return
        self._tracker.accepted(typed, receipt.id)
        if receipt.refused:
            self._tracker.status_changed(receipt.id, "refused")
            await self.print_notice(f"Refused: {receipt.refused}")
        self._app.invalidate()

    async def failed(self, typed: TypedMessage, why: str) -> None:
        self._tracker.failed(typed)
        await self.print_notice(f"Not sent: {why}")

    async def show(self, reply: Reply, files: Files) -> None:
        # Recorded before printing: the lower part is redrawn with each print above.
        self._tracker.reply_changed(reply)
        await self._printer.show(reply, files)
        self._app.invalidate()

    async def show_status(self, status: MessageStatus) -> None:
        self._tracker.status_changed(status.id, status.state)
        self._app.invalidate()

    async def print_notice(self, text: str) -> None:
        await self._printer.print_notice(self._dim(printable(text)))
        self._app.invalidate()

    def show_trouble(self, text: str) -> None:
        self._problems = text
        self._app.invalidate()

    # Display

    async def _echo(self, typed: TypedMessage) -> None:
        text = " ".join([typed.text.strip(), *(f"[{file.name}]" for file in typed.files)]).strip()
        text = printable(text).replace("\n", "\n  ")
        await self._printer.print_notice(styled(f"> {text}", BOLD) if self._color else f"> {text}")

    async def _print(self, text: str) -> None:
        """Prints above the input line."""

        def write() -> None:
            output.write_raw(text)
            output.flush()

        output = self._app.output
        if self._app.is_running:
            await run_in_terminal(write)
        else:
            write()

    def _style(self) -> Style:
        return Style(shutil.get_terminal_size().columns - 1, self._color)

    def _dim(self, text: str) -> str:
        return styled(text, DIM) if self._color else text

    def _layout(self) -> HSplit:
        growing = Window(
            FormattedTextControl(lambda: ANSI("\n".join(self._growing()))),
            height=Dimension(max=_MAX_GROWING_LINES + 1),
            dont_extend_height=True,
        )
        typed = Window(
            BufferControl(self._input, [BeforeInput("> ", "bold")]),
            wrap_lines=True,
            dont_extend_height=True,
            height=Dimension(max=10),
        )
        attached = Window(FormattedTextControl(self._attachments), wrap_lines=True, dont_extend_height=True)
        status = Window(FormattedTextControl(self._status), height=1, style="fg:ansibrightblack")
        return HSplit(
            [
                ConditionalContainer(growing, Condition(lambda: bool(self._growing()))),
                Window(height=1),
                ConditionalContainer(attached, Condition(lambda: bool(self._attached))),
                typed,
                status,
            ]
        )

    def _attachments(self) -> str:
        names = ", ".join(file.name for file in self._attached)
        return printable(f"With the next message: {names}").replace("\n", " ")

    def _growing(self) -> list[str]:
        reply = self._tracker.current_reply
        lines = self._printer.growing(reply)[-_MAX_GROWING_LINES:] if reply is not None else []
        # The text printed above ends without an empty line.
        return ["", *lines] if any(lines) else []

    def _status(self) -> str:
        if self._hint:
            return self._hint
        if self._problems:
            return self._problems
        if not self._tracker.running:
            return "Enter: send · Alt-Enter: new line · /attach FILE · /help · Ctrl-D: quit"
        if self._tracker.parked:
            return "waiting for your answer: a number or text · Esc: stop"
        reply = self._tracker.current_reply
        status = printable(reply.status).replace("\n", " ") if reply is not None and reply.status else "answering"
        rest = " · type to interject · Esc: stop"
        room = shutil.get_terminal_size().columns - len(rest) - len("working: ") - 1
        return f"working: {status if len(status) <= room else status[: max(room - 1, 8)] + '…'}{rest}"

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        def on(*names: str) -> Callable[[Callable[[], object]], None]:
            def bind(action: Callable[[], object]) -> None:
                @keys.add(*names)
                def pressed(event: KeyPressEvent) -> None:
                    action()

            return bind

        on("enter")(self._input.validate_and_handle)
        on("escape", "enter")(lambda: self._input.insert_text("\n"))
        on("escape")(self._stop)
        on("tab")(self._complete)
        on("c-c")(self._interrupt)
        on("c-d")(lambda: self._input.delete() if self._input.text else self._app.exit())
        return keys


class _PathOfFile(Completer):
    """Completes the path behind `/attach`."""

    def __init__(self) -> None:
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        path = begun_path(document.text_before_cursor)
        if path is not None:
            yield from self._paths.get_completions(Document(path), complete_event)


def _private(file: Path) -> str:
    """The file's path; creates the file, readable by its owner only."""
    file.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600))
    return str(file)

"""The screen of a real terminal: what was said scrolls away above, what grows and what one types stay below."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from prompt_toolkit import Application
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import ANSI
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import BufferControl, ConditionalContainer, Dimension, FormattedTextControl, HSplit, Window
from prompt_toolkit.layout import Layout as ScreenLayout
from prompt_toolkit.layout.processors import BeforeInput

from channels.message import MessageStatus, Receipt
from channels.reply import Reply
from channels.terminal.ansi import BOLD, DIM, printable, styled
from channels.terminal.inline_images import Protocol as PictureProtocol
from channels.terminal.message_tracker import Progress
from channels.terminal.parse import Said
from channels.terminal.printer import Files, Place, Printer
from channels.terminal.render import Look
from channels.terminal.screen import say

_MOST_GROWING = 12
"""Lines of the growing text that stay below; all of it scrolls away above once it cannot change any more."""


class PromptScreen:
    """`history` is the file in which what was typed is kept for the arrow keys."""

    def __init__(self, place: Place, history: Path, pictures: PictureProtocol | None, *, color: bool) -> None:
        self.failures = 0
        self._color = color
        self._printer = Printer(self._print, self._look, place, pictures=pictures)
        self._progress = Progress()
        self._said: asyncio.Queue[Said] = asyncio.Queue()
        self._trouble = ""
        self._hint = ""
        self._input = Buffer(
            multiline=True,
            history=FileHistory(_private(history)),
            accept_handler=self._accept,
            on_text_changed=self._forget_hint,
        )
        self._app: Application[None] = Application(
            ScreenLayout(self._layout(), focused_element=self._input), key_bindings=self._keys(), erase_when_done=True
        )

    # What the person does

    def begin_anew(self) -> None:
        self._say(say("/new", quiet=True))

    async def run(self) -> None:
        await self._app.run_async()
        if self._progress.running:
            await self._printer.tell(self._dim("What is not finished goes on without you, or when you come back."))
            await self._printer.tell("", "line")

    def _accept(self, buffer: Buffer) -> bool:
        """False: the input line shall be empty then."""
        if buffer.text.strip():
            self._say(say(buffer.text))
        return False

    def _forget_hint(self, buffer: Buffer) -> None:
        self._hint = ""

    def _say(self, said: Said) -> None:
        self._hint = ""
        self._progress.said(said)
        self._said.put_nowait(said)

    def _interrupt(self) -> None:
        """Ctrl-C: empties the line, or stops what runs, or (twice) leaves."""
        if self._input.text:
            self._input.reset()
        elif self._progress.running:
            self._say(say("/stop", quiet=True))
        elif self._hint:
            self._app.exit()
        else:
            self._hint = "Ctrl-C again leaves"

    # What the gateway does

    async def read(self) -> Said:
        said = await self._said.get()
        if not said.quiet:
            await self._echo(said)
        return said

    async def accepted(self, said: Said, accepted: Receipt | None) -> None:
        if accepted is None:
            await self.failed(said, "the gateway did not keep this message")
            return
        self._progress.accepted(said, accepted.id)
        if accepted.refused:
            self._progress.marked(accepted.id, "refused")
            await self.tell(f"Refused: {accepted.refused}")
        self._app.invalidate()

    async def failed(self, said: Said, why: str) -> None:
        self._progress.dropped(said)
        await self.tell(f"Not sent: {why}")

    async def show(self, reply: Reply, files: Files) -> None:
        # Noted before it is printed: what stands below is drawn anew with each thing that is printed above.
        self._progress.replied(reply)
        await self._printer.show(reply, files)
        self._app.invalidate()

    async def show_status(self, status: MessageStatus) -> None:
        self._progress.marked(status.id, status.state)
        self._app.invalidate()

    async def tell(self, text: str) -> None:
        await self._printer.tell(self._dim(printable(text)))
        self._app.invalidate()

    def trouble(self, text: str) -> None:
        self._trouble = text
        self._app.invalidate()

    # What is seen

    async def _echo(self, said: Said) -> None:
        text = printable(said.text.strip()).replace("\n", "\n  ")
        await self._printer.tell(styled(f"> {text}", BOLD) if self._color else f"> {text}")

    async def _print(self, text: str) -> None:
        """Writes above the input line, which moves down."""

        def write() -> None:
            output.write_raw(text)
            output.flush()

        output = self._app.output
        if self._app.is_running:
            await run_in_terminal(write)
        else:
            write()

    def _look(self) -> Look:
        return Look(shutil.get_terminal_size().columns - 1, self._color)

    def _dim(self, text: str) -> str:
        return styled(text, DIM) if self._color else text

    def _layout(self) -> HSplit:
        growing = Window(
            FormattedTextControl(lambda: ANSI("\n".join(self._growing()))),
            height=Dimension(max=_MOST_GROWING + 1),
            dont_extend_height=True,
        )
        typed = Window(
            BufferControl(self._input, [BeforeInput("> ", "bold")]),
            wrap_lines=True,
            dont_extend_height=True,
            height=Dimension(max=10),
        )
        status = Window(FormattedTextControl(self._status), height=1, style="fg:ansibrightblack")
        return HSplit(
            [ConditionalContainer(growing, Condition(lambda: bool(self._growing()))), Window(height=1), typed, status]
        )

    def _growing(self) -> list[str]:
        reply = self._progress.growing
        lines = self._printer.growing(reply)[-_MOST_GROWING:] if reply is not None else []
        # What is printed above ends without an empty line.
        return ["", *lines] if any(lines) else []

    def _status(self) -> str:
        if self._hint:
            return self._hint
        if self._trouble:
            return self._trouble
        if not self._progress.running:
            return "Enter sends · Alt-Enter begins a new line · /help · Ctrl-D leaves"
        if self._progress.parked:
            return "waiting for your answer: a number or your own words · Ctrl-C stops it"
        reply = self._progress.growing
        doing = printable(reply.status).replace("\n", " ") if reply is not None and reply.status else "answering"
        rest = " · write to interrupt it · Ctrl-C stops it"
        room = shutil.get_terminal_size().columns - len(rest) - len("working: ") - 1
        return f"working: {doing if len(doing) <= room else doing[: max(room - 1, 8)] + '…'}{rest}"

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        def on(*names: str) -> Callable[[Callable[[], object]], None]:
            def bind(do: Callable[[], object]) -> None:
                @keys.add(*names)
                def pressed(event: KeyPressEvent) -> None:
                    do()

            return bind

        on("enter")(self._input.validate_and_handle)
        on("escape", "enter")(lambda: self._input.insert_text("\n"))
        on("c-c")(self._interrupt)
        on("c-d")(lambda: self._input.delete() if self._input.text else self._app.exit())
        return keys


def _private(file: Path) -> str:
    """The file's path; it is there then, and readable by its owner only."""
    file.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600))
    return str(file)

"""Streaming of a model's answer to people: delta by delta, or in whole blocks if hooks review it first."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import assert_never

from agent.agent import unmasked
from agent.events import Charged, Delta, Emit, ReasoningDelta, TextDelta, Waiting, Withdrawn
from agent.gate import TextJoiner
from agent.hook import End, HookContext, Hooks, ReplyPart, Stop
from agent.log import ModelAnswered, Spent, Text, Usage
from agent.media import Attachment

_BLANK_LINE = re.compile(r"\n[ \t]*\n")


class EndTurn(Exception):
    """The turn ends here, usually because of a hook; the message is the reason, for a person."""

    def __init__(self, ruling: End | Stop, hook: str = "") -> None:
        super().__init__(f"{ruling.reason} (the hook {hook!r})" if hook else ruling.reason)
        self.stopped = isinstance(ruling, Stop)


async def review(hooks: Hooks, context: HookContext, part: ReplyPart) -> ReplyPart | None:
    """The part as people may see it; None if a hook denies it. Raises `EndTurn`."""
    part, ruled = await hooks.ask("before_reply", context, part)
    if ruled is None:
        return part
    match ruled.ruling:
        case End() | Stop() as ruling:
            raise EndTurn(ruling, ruled.hook)
        case _:
            return None


class AnswerStream:
    """One answer while it streams. Text is emitted as it arrives, or block by block if a hook reviews replies.

    `mask` removes known secrets from the text that hooks see and that is logged.
    """

    def __init__(
        self, hooks: Hooks, context: HookContext, emit: Emit, step: int, mask: Callable[[str], str] = unmasked
    ) -> None:
        self._hooks = hooks
        self._context = context
        self._emit = emit
        self._step = step
        self._mask = mask
        self._text = TextJoiner()
        self._reasoning = TextJoiner()
        self._received: list[str] = []
        self._shown: list[str] = []
        self._pending = ""
        self._charges: list[Spent] = []
        self._usage = Usage()
        self._model = ""
        self._reviews = hooks.active("before_reply")
        self._asked_at: float | None = None
        self._first_at: float | None = None

    def begin(self) -> None:
        """The model is asked now."""
        self._asked_at = time.monotonic()

    @property
    def seconds(self) -> float | None:
        """Since the model was asked; None if it was not."""
        return self._since_asked(time.monotonic())

    @property
    def first_token(self) -> float | None:
        """Seconds until the answer's first text or reasoning; None if there was none."""
        return self._since_asked(self._first_at)

    def _since_asked(self, at: float | None) -> float | None:
        return None if at is None or self._asked_at is None else round(max(0.0, at - self._asked_at), 3)

    async def receive(self, delta: Delta) -> None:
        if self._first_at is None and isinstance(delta, TextDelta | ReasoningDelta):
            self._first_at = time.monotonic()
        match delta:
            case TextDelta(piece):
                text = self._text.add(piece)
                delta = TextDelta(text)
                self._received.append(text)
                if self._reviews:
                    await self._emit_blocks(text)
                    return
            case ReasoningDelta() if self._reviews:
                # Unreviewed text is not shown, only the fact that the model is reasoning.
                delta = ReasoningDelta("")
            case ReasoningDelta(piece):
                delta = ReasoningDelta(self._reasoning.add(piece))
            case Withdrawn():
                self._first_at = None
                self._text.clear()
                self._reasoning.clear()
                self._received.clear()
                self._shown.clear()
                self._pending = ""
            case Charged(usage, model, purpose):
                self._charges.append(Spent(self._step, usage, model, purpose))
            case Waiting():
                pass
            case _:
                assert_never(delta)
        await self._emit(delta)

    def finish(self, usage: Usage, model: str) -> None:
        """The answer is complete, with its cost, which counts in any case."""
        self._usage, self._model = usage, model

    async def shown(self, text: str) -> str | None:
        """The text of the finished answer that people see; None if it is the answer's own text."""
        if not self._reviews:
            return None
        if text != self._mask("".join(self._received)):
            # The answer was not streamed, or a hook changed it afterwards.
            if self._shown:
                self._shown.clear()
                await self._emit(Withdrawn())
            self._pending = text
        if self._pending.strip():
            await self._show(self._pending)
        self._pending = ""
        return "".join(self._shown)

    def unlogged(self) -> tuple[Spent | ModelAnswered, ...]:
        """The entries to log if the answer ends here: its cost, and the text so far. If hooks review replies, that is
        the text which they let people see."""
        text = self._mask("".join(self._shown if self._reviews else self._received))
        if not text and self._usage == Usage():
            return tuple(self._charges)
        parts = (Text(text),) if text else ()
        answered = ModelAnswered(
            self._step,
            parts,
            self._usage,
            self._model,
            interrupted=True,
            seconds=self.seconds,
            first_token=self.first_token,
        )
        return (*self._charges, answered)

    async def discard(self) -> tuple[Spent, ...]:
        """Withdraws the text so far, which nobody has seen; the cost of the answer."""
        await self.receive(Withdrawn())
        finished = () if self._usage == Usage() else (Spent(self._step, self._usage, self._model, "cancelled"),)
        return (*self._charges, *finished)

    @property
    def charges(self) -> tuple[Spent, ...]:
        return tuple(self._charges)

    async def _emit_blocks(self, text: str) -> None:
        self._pending += text
        end = _last_block_end(self._pending)
        if end:
            block, self._pending = self._pending[:end], self._pending[end:]
            await self._show(block)

    async def _show(self, block: str) -> None:
        part = await review(self._hooks, self._context, ReplyPart("text", self._mask(block)))
        if part is not None and part.text:
            self._shown.append(part.text)
            await self._emit(TextDelta(part.text))


def _last_block_end(text: str) -> int:
    """The end of the last complete block; 0 if there is none. A code block is complete with its closing fence."""
    for found in reversed(list(_BLANK_LINE.finditer(text))):
        if text.count("```", 0, found.end()) % 2 == 0:
            return found.end()
    return 0


async def review_files(
    hooks: Hooks, context: HookContext, attachments: tuple[Attachment, ...], caption: str
) -> tuple[tuple[Attachment, ...], str, str]:
    """The files that people may see, their caption, and a note for the model on the withheld ones."""
    if not attachments or not hooks.active("before_reply"):
        return attachments, caption, ""
    visible: list[Attachment] = []
    withheld: list[str] = []
    for attachment in attachments:
        part = await review(hooks, context, ReplyPart("file", caption, attachment))
        if part is None:
            withheld.append(attachment.name)
        else:
            visible.append(attachment)
            caption = part.text
    note = f"[Not shown to the person, denied by a hook: {', '.join(withheld)}]" if withheld else ""
    return tuple(visible), caption, note

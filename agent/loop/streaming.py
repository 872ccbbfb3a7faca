"""What a model tells while it answers, on its way to people: held to whole blocks where hooks look at it first."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import assert_never

from agent.agent import unmasked
from agent.events import Charged, Delta, Emit, ReasoningDelta, TextDelta, Waiting, Withdrawn
from agent.hook import End, HookContext, Hooks, ReplyPart, Stop
from agent.log import ModelAnswered, Spent, Text, Usage
from agent.media import Attachment

_BLANK_LINE = re.compile(r"\n[ \t]*\n")


class EndTurn(Exception):
    """The turn ends here, in most cases because a hook wants it; the message is the reason in words for a person."""

    def __init__(self, ruling: End | Stop, hook: str = "") -> None:
        super().__init__(f"{ruling.reason} (the hook {hook!r})" if hook else ruling.reason)
        self.stopped = isinstance(ruling, Stop)


async def reviewed(hooks: Hooks, context: HookContext, part: ReplyPart) -> ReplyPart | None:
    """The part as people may see it; None if they may not. Raises `EndTurn`."""
    part, ruled = await hooks.ask("before_reply", context, part)
    if ruled is None:
        return part
    match ruled.ruling:
        case End() | Stop() as ruling:
            raise EndTurn(ruling, ruled.hook)
        case _:
            return None


class AnswerStream:
    """One answer as it is told. Text goes on as it comes, or, while a hook stands before replies, block by block.

    `mask` takes known secrets out of what hooks look at and of what is kept.
    """

    def __init__(
        self, hooks: Hooks, context: HookContext, emit: Emit, step: int, mask: Callable[[str], str] = unmasked
    ) -> None:
        self._hooks = hooks
        self._context = context
        self._emit = emit
        self._step = step
        self._mask = mask
        self._told: list[str] = []
        self._shown: list[str] = []
        self._held = ""
        self._charges: list[Spent] = []
        self._usage = Usage()
        self._model = ""
        self._reviews = hooks.active("before_reply")

    async def tell(self, delta: Delta) -> None:
        match delta:
            case TextDelta(text):
                self._told.append(text)
                if self._reviews:
                    await self._pass_on(text)
                    return
            case ReasoningDelta() if self._reviews:
                # It has not been looked at, and only says that somebody thinks.
                delta = ReasoningDelta("")
            case Withdrawn():
                self._told.clear()
                self._shown.clear()
                self._held = ""
            case Charged(usage, model, purpose):
                self._charges.append(Spent(self._step, usage, model, purpose))
            case ReasoningDelta() | Waiting():
                pass
            case _:
                assert_never(delta)
        await self._emit(delta)

    def given(self, usage: Usage, model: str) -> None:
        """The model's answer is whole, and this is what it cost, whatever becomes of it."""
        self._usage, self._model = usage, model

    async def shown(self, text: str) -> str | None:
        """What people see of the finished answer; None if it is the answer's own text."""
        if not self._reviews:
            return None
        if text != self._mask("".join(self._told)):
            # It was not told piece by piece, or was changed after that.
            if self._shown:
                self._shown.clear()
                await self._emit(Withdrawn())
            self._held = text
        if self._held.strip():
            await self._show(self._held)
        self._held = ""
        return "".join(self._shown)

    def unlogged(self) -> tuple[Spent | ModelAnswered, ...]:
        """What was told of the answer so far and what it cost, as the log is to have it when it ends here."""
        told = self._mask("".join(self._told))
        if not told and self._usage == Usage():
            return tuple(self._charges)
        parts = (Text(told),) if told else ()
        shown = self._mask("".join(self._shown)) if self._reviews else None
        return (
            *self._charges,
            ModelAnswered(self._step, parts, self._usage, self._model, interrupted=True, shown=shown),
        )

    @property
    def charges(self) -> tuple[Spent, ...]:
        return tuple(self._charges)

    async def _pass_on(self, text: str) -> None:
        self._held += text
        edge = _last_edge(self._held)
        if edge:
            block, self._held = self._held[:edge], self._held[edge:]
            await self._show(block)

    async def _show(self, block: str) -> None:
        part = await reviewed(self._hooks, self._context, ReplyPart("text", self._mask(block)))
        if part is not None and part.text:
            self._shown.append(part.text)
            await self._emit(TextDelta(part.text))


def _last_edge(text: str) -> int:
    """Where the last whole block ends; 0 if there is none. A code block is whole with its closing fence."""
    for found in reversed(list(_BLANK_LINE.finditer(text))):
        if text.count("```", 0, found.end()) % 2 == 0:
            return found.end()
    return 0


async def reviewed_files(
    hooks: Hooks, context: HookContext, attachments: tuple[Attachment, ...], caption: str
) -> tuple[tuple[Attachment, ...], str, str]:
    """The files that people may see, their caption, and a word for the model on those that they may not."""
    if not attachments or not hooks.active("before_reply"):
        return attachments, caption, ""
    kept: list[Attachment] = []
    withheld: list[str] = []
    for attachment in attachments:
        part = await reviewed(hooks, context, ReplyPart("file", caption, attachment))
        if part is None:
            withheld.append(attachment.name)
        else:
            kept.append(attachment)
            caption = part.text
    note = f"[Not shown to the person, denied by a hook: {', '.join(withheld)}]" if withheld else ""
    return tuple(kept), caption, note

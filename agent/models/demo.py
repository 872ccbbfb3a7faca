"""The built-in demo: a model without a model, offline and deterministic, that shows what the gateway can do."""

from __future__ import annotations

import asyncio
import re

from agent.events import Tell, TextDelta
from agent.log import Call, Part, Text
from agent.model import Answer, Request
from agent.models.demo_script import reply

SENTENCE_END = re.compile(r"[.!?:]\s*$")


class DemoModel:
    """Says what `demo_script.reply` says, word by word. `pause` is in seconds between words, longer after sentences."""

    def __init__(self, *, pause: float = 0.025) -> None:
        self._pause = pause

    async def answer(self, request: Request, tell: Tell) -> Answer:
        text, calls = reply(request)
        await self._say(text, tell)
        parts: tuple[Part, ...] = (*((Text(text),) if text else ()), *calls)
        return Answer(parts, finish="calls" if any(isinstance(part, Call) for part in parts) else "stop", model="demo")

    async def _say(self, text: str, tell: Tell) -> None:
        pause = 0.0
        for word in re.findall(r"\S+\s*", text):
            # The pauses stand between words: nobody waits for the first one.
            await asyncio.sleep(pause)
            await tell(TextDelta(word))
            pause = self._pause * (4 if SENTENCE_END.search(word) else 1)

"""The built-in demo model: offline and deterministic, it shows what the gateway can do."""

from __future__ import annotations

import asyncio
import re

from agent.events import OnDelta, TextDelta
from agent.log import Call, Part, Text
from agent.model import Answer, Request
from agent.models.demo_script import reply

SENTENCE_END = re.compile(r"[.!?:]\s*$")


class DemoModel:
    """Streams the answers of `demo_script.reply` word by word. `pause` is in seconds, longer after sentences."""

    def __init__(self, *, pause: float = 0.025) -> None:
        self._pause = pause

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        text, calls = reply(request)
        await self._say(text, on_delta)
        parts: tuple[Part, ...] = (*((Text(text),) if text else ()), *calls)
        return Answer(parts, finish="calls" if any(isinstance(part, Call) for part in parts) else "stop", model="demo")

    async def _say(self, text: str, on_delta: OnDelta) -> None:
        pause = 0.0
        for word in re.findall(r"\S+\s*", text):
            # The pauses are between words: the first word comes at once.
            await asyncio.sleep(pause)
            await on_delta(TextDelta(word))
            pause = self._pause * (4 if SENTENCE_END.search(word) else 1)

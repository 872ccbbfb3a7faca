"""Routing: a model wrapper that sends small talk to a small model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from agent.events import OnDelta
from agent.log import MessagesRead, ModelAnswered
from agent.model import Answer, Model, Request
from agent.transcript import Exchange, SystemNote

SMALL_TALK = 0.5
"""A request with a lower effort than this is small talk."""

LONG_MESSAGE = 400
"""Characters of text that reach that effort by their length alone."""

RECENT_EXCHANGES = 8
"""A tool call within this many exchanges means that the conversation is in the middle of work."""

_CODE = re.compile(r"```|`[^`\n]+`|https?://|(?:^|\s)[~.]{0,2}/\w|^\s*(?:Traceback|Error:)|[{};]\s*$", re.MULTILINE)
_ACTION_VERB = re.compile(
    r"""\b(?:
    add | analy[sz]e | build | calculate | change | check | compare | convert | create | debug | delete | deploy | draw
    | edit | explain | explore | fetch | find | fix | generate | implement | install | investigate | list | look | make
    | move | open | plan | plot | read | refactor | remove | rename | research | review | run | search | send | show
    | solve | start | summari[sz]e | test | translate | update | upload | write
    | analysiere | baue | berechne | erkläre | erstelle | finde | lies | lösche | mache? | prüfe | repariere | schreibe?
    | schick | starte | suche? | teste | übersetze | vergleiche | zeige? | ändere
    | ajoute | analyse[rz]? | calcule | cherche | compare | corrige | crée | explique | fais | montre | trouve | écris
    | agrega | analiza | busca | calcula | corrige | crea | escribe | explica | haz | muestra
    )\b""",
    re.IGNORECASE | re.VERBOSE,
)
_OTHER_SCRIPT = re.compile(r"[\u0370-\u1fff\u2e80-\ud7ff]")


class RoutedModel:
    """Sends the first step of a turn to `small` if its text is small talk; `small` is a name that the chain knows.
    A request that names a model already is not routed."""

    def __init__(self, model: Model, small: str) -> None:
        self._model = model
        self._small = small

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        if not request.model and effort(request) < SMALL_TALK:
            request = replace(request, model=self._small)
        return await self._model.answer(request, on_delta)


def effort(request: Request) -> float:
    """An estimate of how demanding the request is, from 0 to 1.

    1 if it is not the first step of a turn, has attachments or context, or follows recent tool calls. Otherwise the
    text counts: 0.5 for 400 characters, in proportion; 0.1 for each question mark; 0.5 for an action verb, or a
    script whose verbs are not known here; 0.6 for code, a link or a path; at most 1.
    """
    first = _first_messages(request.transcript)
    if first is None or any(message.attachments or message.note or message.foreign for message in first.messages):
        return 1.0
    recent = islice(reversed(request.transcript), RECENT_EXCHANGES)
    if any(isinstance(exchange, ModelAnswered) and exchange.calls for exchange in recent):
        return 1.0
    text = "\n".join(message.text for message in first.messages)
    points = 0.5 * len(text) / LONG_MESSAGE + 0.1 * text.count("?")
    points += 0.5 * bool(_ACTION_VERB.search(text) or _OTHER_SCRIPT.search(text)) + 0.6 * bool(_CODE.search(text))
    return min(points, 1.0)


def _first_messages(transcript: Sequence[Exchange]) -> MessagesRead | None:
    """The messages that begin this turn, if the model has not answered them yet."""
    last = next((exchange for exchange in reversed(transcript) if not isinstance(exchange, SystemNote)), None)
    return last if isinstance(last, MessagesRead) and last.step == 1 else None

"""Routing: a model around a chain, that has small talk answered by a small model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from agent.events import Tell
from agent.log import MessagesRead, ModelAnswered
from agent.model import Answer, Model, Request
from agent.transcript import Exchange, SystemNote

SMALL_TALK = 0.5
"""What asks for less effort than this is small talk."""

LONG = 400
"""Characters of words that are an effort by their length alone."""

RECENT = 8
"""Exchanges back in which a tool call means that the conversation is in the middle of work."""

_CODE = re.compile(r"```|`[^`\n]+`|https?://|(?:^|\s)[~.]{0,2}/\w|^\s*(?:Traceback|Error:)|[{};]\s*$", re.MULTILINE)
_DOING = re.compile(
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
_FOREIGN = re.compile(r"[\u0370-\u1fff\u2e80-\ud7ff]")


class RoutedModel:
    """Has the first step of a turn answered by `small` where its words are small talk; `small` is a name that the chain
    knows. A request that names a model already is left alone."""

    def __init__(self, model: Model, small: str) -> None:
        self._model = model
        self._small = small

    async def answer(self, request: Request, tell: Tell) -> Answer:
        if not request.model and effort(request) < SMALL_TALK:
            request = replace(request, model=self._small)
        return await self._model.answer(request, tell)


def effort(request: Request) -> float:
    """How much the request asks of a model, from 0 to 1.

    1 for whatever is not the first step of a turn, comes with attachments or context, or follows on recent tool calls.
    Else the words count: 0.5 for 400 characters, less or more in proportion; 0.1 for each question mark; 0.5 for a verb
    of doing, or a script whose verbs are not known here; 0.6 for code, a link or a path; 1 at most.
    """
    heard = _just_heard(request.transcript)
    if heard is None or any(said.attachments or said.note for said in heard.messages):
        return 1.0
    recent = islice(reversed(request.transcript), RECENT)
    if any(isinstance(exchange, ModelAnswered) and exchange.calls for exchange in recent):
        return 1.0
    words = "\n".join(said.text for said in heard.messages)
    points = 0.5 * len(words) / LONG + 0.1 * words.count("?")
    points += 0.5 * bool(_DOING.search(words) or _FOREIGN.search(words)) + 0.6 * bool(_CODE.search(words))
    return min(points, 1.0)


def _just_heard(transcript: Sequence[Exchange]) -> MessagesRead | None:
    """The words that begin this turn, if nothing was done about them yet."""
    last = next((exchange for exchange in reversed(transcript) if not isinstance(exchange, SystemNote)), None)
    return last if isinstance(last, MessagesRead) and last.step == 1 else None

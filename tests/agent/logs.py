"""Random logs of turns, as the loop could have written them, and what every conversation made of them must be."""

from __future__ import annotations

from hypothesis import strategies as st

from agent.log import (
    Call,
    CallEnded,
    CallStarted,
    Ended,
    Entry,
    MessagesRead,
    ModelAnswered,
    Outcome,
    Text,
    UserMessage,
)
from agent.tools.todos import NAME as TODOS
from agent.transcript import Exchange, RenderedTurn, Results, transcript

OUTCOMES: tuple[Outcome, ...] = ("done", "failed", "skipped", "cancelled", "denied", "unknown")
LIST = '{{"items": [{{"text": "item {number}", "state": "doing"}}]}}'


@st.composite
def _log(draw: st.DrawFn) -> tuple[Entry, ...]:
    """A turn that is about to take its next step: all its calls are over."""
    entries: list[Entry] = [_heard(draw, 1)]
    for step in range(1, 1 + draw(st.integers(0, 8))):
        calls = tuple(_call(draw, step, number) for number in range(draw(st.integers(0, 3))))
        text = "t" * draw(st.integers(0, 2000))
        interrupted = not calls and draw(st.booleans())
        entries.append(ModelAnswered(step, (*((Text(text),) if text else ()), *calls), interrupted=interrupted))
        for call in calls:
            outcome = draw(st.sampled_from(OUTCOMES))
            if outcome != "skipped":
                entries.append(CallStarted(call.id))
            entries.append(CallEnded(call.id, outcome, "r" * draw(st.integers(0, 6000))))
        if not calls or draw(st.booleans()):
            entries.append(_heard(draw, step + 1))
    return tuple(entries)


def _heard(draw: st.DrawFn, step: int) -> MessagesRead:
    texts = draw(st.lists(st.integers(1, 400), min_size=1, max_size=2))
    return MessagesRead(
        step,
        tuple(UserMessage(step * 10 + number, "Ann", f"{step}.{number} " * size) for number, size in enumerate(texts)),
    )


def _call(draw: st.DrawFn, step: int, number: int) -> Call:
    if draw(st.booleans()):
        return Call(f"{step}_{number}", TODOS, LIST.format(number=step))
    return Call(f"{step}_{number}", "look", '{"at": "it"}')


def _past(turns: list[tuple[Entry, ...]]) -> tuple[RenderedTurn, ...]:
    return tuple(
        RenderedTurn(f"turn {number}", tuple(transcript((*log, Ended("stopped", "it was stopped")))))
        for number, log in enumerate(turns)
    )


logs = _log()
pasts = st.lists(logs, max_size=5).map(_past)


def assert_complete(exchanges: list[Exchange]) -> None:
    """Each answer with calls is followed by exactly their results."""
    for exchange, following in zip(exchanges, [*exchanges[1:], None], strict=True):
        if isinstance(exchange, ModelAnswered) and exchange.calls:
            assert isinstance(following, Results)
            assert [result.call for result in following.results] == list(exchange.calls)
        else:
            assert not isinstance(following, Results)

"""What the model is shown of logs: complete in every case, and shorter where it was summed up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.log import (
    ApprovalDecided,
    ApprovalRequested,
    Call,
    CallEnded,
    CallStarted,
    Compacted,
    Ended,
    Entry,
    MessagesRead,
    ModelAnswered,
    Spent,
    Text,
    Usage,
    UserMessage,
)
from agent.transcript import Exchange, RenderedTurn, Results, SystemNote, conversation, model_view, transcript
from tests.agent.logs import assert_complete, logs, pasts


def heard(step: int, text: str) -> MessagesRead:
    return MessagesRead(step, (UserMessage(step, "Ann", text),))


def answered(step: int, text: str = "", *calls: Call) -> ModelAnswered:
    return ModelAnswered(step, (*((Text(text),) if text else ()), *calls))


def call(id: str) -> Call:
    return Call(id, "look", "{}")


LOG: tuple[Entry, ...] = (
    heard(1, "first"),
    answered(1, "looking", call("a")),
    CallStarted("a"),
    CallEnded("a", "done", "seen"),
    heard(2, "second"),
    answered(2, "", call("b")),
    CallEnded("b", "denied", "Not allowed."),
    answered(3, "That is all."),
)


def test_a_call_that_was_denied_has_its_result_and_the_asking_is_not_shown() -> None:
    asked = (ApprovalRequested("b", "call", "May I?", ("yes", "no"), 1.0), ApprovalDecided("b", "denied", "Ann"))
    spent = Spent(3, Usage(1, 1), "small", "title")
    exchanges = transcript((*LOG[:6], *asked, spent, *LOG[6:]))
    assert exchanges == transcript(LOG)
    assert [item.results[0].outcome for item in exchanges if isinstance(item, Results)] == ["done", "denied"]


def test_a_summary_of_steps_stands_before_all_words_and_the_steps_since() -> None:
    exchanges = transcript((*LOG[:-1], Compacted(2, "", "Looked."), LOG[-1]))
    assert isinstance(exchanges[0], SystemNote)
    assert exchanges[0].text.endswith("Looked.")
    assert [words(item) for item in exchanges[1:]] == ["first", "second", "", "Not allowed.", "That is all."]


def test_the_last_summary_of_a_turn_counts() -> None:
    exchanges = transcript((*LOG, Compacted(2, "", "Looked."), Compacted(3, "", "Looked twice.")))
    assert [words(item) for item in exchanges[1:]] == ["first", "second", "That is all."]
    assert "Looked twice." in words(exchanges[0])


def test_a_summary_stands_in_place_of_the_past_turns_it_covers() -> None:
    past = [RenderedTurn(name, (heard(1, name),)) for name in ("one", "two", "three")]
    summarised = Compacted(1, "two", "Two things.")
    exchanges = conversation(past, (heard(1, "now"), summarised))
    assert [words(item).partition("\n")[2] or words(item) for item in exchanges] == ["Two things.", "three", "now"]


def test_what_was_left_out_is_said_as_it_is() -> None:
    entries = (heard(1, "now"), Compacted(1, "one", "1 earlier turn was left out.", left_out=True))
    assert words(conversation([RenderedTurn("one", (heard(1, "one"),))], entries)[0]) == "1 earlier turn was left out."


def test_a_turn_that_summed_up_is_past_with_its_summary_in_the_place_of_what_it_covers() -> None:
    past = [RenderedTurn(name, (heard(1, name),)) for name in ("one", "two", "three")]
    entries = (heard(1, "now"), Compacted(1, "two", "Two things."), answered(1, "Yes."), Ended("completed"))
    before, own = model_view(past, entries)
    later = (heard(1, "later"),)
    assert [turn.id for turn in before] == ["two", "three"]
    assert conversation([*before, RenderedTurn("four", own)], later) == [*conversation(past, entries), *later]


def test_a_summary_of_turns_that_are_not_there_hides_nothing_else() -> None:
    past = [RenderedTurn("one", (heard(1, "one"),))]
    exchanges = conversation(past, (heard(1, "now"), Compacted(1, "gone", "Things.")))
    assert [words(item) for item in exchanges if isinstance(item, MessagesRead)] == ["one", "now"]


@given(pasts, logs, st.data())
def test_whatever_is_summed_up_each_call_shown_has_its_result_and_all_words_of_the_turn_are_there(
    past: tuple[RenderedTurn, ...], log: tuple[Entry, ...], data: st.DataObject
) -> None:
    through = data.draw(st.sampled_from(["", "gone", *(turn.id for turn in past)]))
    place = data.draw(st.integers(0, len(log)))
    step = data.draw(st.integers(1, 1 + sum(isinstance(entry, ModelAnswered) for entry in log[:place])))
    exchanges = conversation(past, (*log[:place], Compacted(step, through, "Things."), *log[place:]))
    assert_complete(exchanges)
    own = [entry for entry in log if isinstance(entry, MessagesRead)]
    assert [item for item in exchanges if isinstance(item, MessagesRead)][-len(own) :] == own
    assert sum("Things." in words(item) for item in exchanges) == 1


def words(exchange: Exchange) -> str:
    match exchange:
        case MessagesRead():
            return " ".join(message.text for message in exchange.messages)
        case ModelAnswered():
            return exchange.text
        case Results():
            return " ".join(result.text for result in exchange.results)
        case SystemNote():
            return exchange.text

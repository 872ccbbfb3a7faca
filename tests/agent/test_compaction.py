"""Conversations that grow too long: what is summed up, when, and what stays."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.agent import Agent
from agent.context.compaction import MAX_SUMMARY_TOKENS, RESERVED_TOKENS, SUMMARIZING, Compactor, NoSummary
from agent.context.tokens import estimate_transcript
from agent.events import Charged, Delta, Event, Waiting
from agent.log import (
    ApprovalDecided,
    ApprovalRequested,
    Call,
    CallEnded,
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
from agent.loop.memory_journal import MemoryJournal
from agent.loop.turn import Turn
from agent.model import Answer, ModelError, Request
from agent.models.context_windows import DEFAULT, context_window_of
from agent.models.scripted import ScriptedModel
from agent.testing import MemoryMedia
from agent.tool import Tool, ToolContext, tool
from agent.tools.files import read_file
from agent.tools.output_limits import HEAD_LENGTH, MAX_RESULT_LENGTH, TAIL_LENGTH, full_results, truncate_result
from agent.tools.received_files import copy_to_workspace
from agent.tools.todos import MAX_ITEM_LENGTH, MAX_ITEMS
from agent.transcript import Exchange, RenderedTurn, SystemNote, conversation, transcript
from gateway.store.records import PastTurn
from gateway.turns.history_cache import HistoryCache
from tests.agent.logs import assert_complete, logs, pasts

WINDOW = 20_000
SUMMARY = "They talked about ships."
USAGE = Usage(900, 90)

NOW: tuple[Entry, ...] = (MessagesRead(1, (UserMessage(9, "Ann", "And now?"),)),)


class Desk:
    """A context whose small model follows a script, and what was told meanwhile."""

    def __init__(self, small: ScriptedModel | None = None, *, window: int = WINDOW) -> None:
        self.small = small or ScriptedModel(*[Answer((Text(SUMMARY),), USAGE, model="small")] * 9)
        self.context = Compactor(window, self.small)
        self.told: list[Delta] = []

    async def compact(
        self, past: Sequence[RenderedTurn], entries: Sequence[Entry], *, used: int = 0, force: bool = False
    ) -> tuple[Entry, ...]:
        if used:
            last = max(index for index, entry in enumerate(entries) if isinstance(entry, ModelAnswered))
            counted = [
                replace(entry, usage=Usage(used)) if index == last and isinstance(entry, ModelAnswered) else entry
                for index, entry in enumerate(entries)
            ]
            entries = tuple(counted)
        return await self.context.compact(
            past, entries, instructions="Be good.", tools=(), on_delta=self.tell, force=force
        )

    async def tell(self, delta: Delta) -> None:
        self.told.append(delta)

    def asked(self, number: int = -1) -> str:
        (heard,) = self.small.requests[number].transcript
        assert isinstance(heard, MessagesRead)
        return heard.messages[0].text


def turn(name: str, tokens: int = 2000) -> RenderedTurn:
    said = MessagesRead(1, (UserMessage(1, "Ann", f"question of {name}"),))
    return RenderedTurn(name, (said, ModelAnswered(1, (Text(f"answer of {name} " + "a" * 4 * tokens),))))


def turns(count: int, tokens: int = 2000) -> list[RenderedTurn]:
    return [turn(f"turn {number}", tokens) for number in range(1, count + 1)]


def steps(count: int, tokens: int = 1000, *, name: str = "look", arguments: str = "{}") -> tuple[Entry, ...]:
    entries: list[Entry] = list(NOW)
    for number in range(1, count + 1):
        entries.append(ModelAnswered(number, (Call(f"c{number}", name, arguments),)))
        entries.append(CallEnded(f"c{number}", "done", f"result {number} " + "r" * 4 * tokens))
    return tuple(entries)


def summarised(entries: Sequence[Entry]) -> Compacted:
    (found,) = [entry for entry in entries if isinstance(entry, Compacted)]
    return found


def texts(exchanges: Sequence[Exchange]) -> str:
    return "\n".join(map(str, exchanges))


async def test_nothing_is_done_while_there_is_room() -> None:
    desk = Desk()
    assert await desk.compact(turns(3), NOW) == ()
    assert desk.small.requests == []
    assert desk.told == []


async def test_the_oldest_turns_are_summed_up_and_the_newest_are_kept_as_they_are() -> None:
    desk, past = Desk(), turns(8)
    logged = await desk.compact(past, NOW)
    assert logged == (Spent(1, USAGE, "small", "summary"), Compacted(1, "turn 6", SUMMARY))
    shown = conversation(past, (*NOW, *logged))
    assert SUMMARY in texts(shown[:1])
    assert shown[1:] == [*past[6].exchanges, *past[7].exchanges, *NOW]
    assert "question of turn 1" in desk.asked()
    assert "question of turn 6" in desk.asked()
    assert "question of turn 7" not in desk.asked()
    assert await desk.compact(past, (*NOW, *logged)) == ()


async def test_people_see_that_it_is_being_summed_up_and_not_the_summary() -> None:
    desk = Desk()
    await desk.compact(turns(8), NOW)
    assert desk.told == [Waiting("Summarizing the conversation so far ...")]


async def test_what_failed_attempts_of_the_small_model_cost_is_told() -> None:
    charged = Charged(Usage(5, 0, estimated=True), "small", "failed")

    class Charging:
        async def answer(self, request: Request, on_delta: object) -> Answer:
            assert callable(on_delta)
            await on_delta(charged)
            return Answer((Text(SUMMARY),))

    desk = Desk()
    desk.context = Compactor(WINDOW, Charging())
    await desk.compact(turns(8), NOW)
    assert desk.told[1:] == [charged]


async def test_the_next_summary_takes_up_the_one_before() -> None:
    desk, past = Desk(), turns(8)
    first = await desk.compact(past, NOW)
    later = (
        *NOW,
        *first,
        ModelAnswered(1, (Text("x" * 60_000),)),
        MessagesRead(2, (UserMessage(10, "Ann", "Go on."),)),
    )
    second = summarised(await desk.compact(past, later))
    assert SUMMARY in desk.asked()
    assert "question of turn 1" not in desk.asked()
    assert "question of turn 8" in desk.asked()
    assert second.through == "turn 8"


async def test_what_the_provider_counted_goes_before_our_estimate() -> None:
    desk, past = Desk(), turns(4)
    entries = (*NOW, ModelAnswered(1, (Call("c", "look", "{}"),)), CallEnded("c", "done", "seen"))
    assert await desk.compact(past, entries, used=9000) == ()
    logged = await desk.compact(past, entries, used=16_000)
    # As it counts twice as many tokens as we do, half as many turns are kept.
    assert summarised(logged).through == "turn 3"


async def test_between_turns_the_providers_last_count_goes_before_our_estimate_too() -> None:
    def counted(tokens: int) -> list[RenderedTurn]:
        *before, last = turns(4)
        return [*before, replace(last, size=tokens)]

    desk = Desk()
    assert await desk.compact(counted(9_000), NOW) == ()
    assert summarised(await desk.compact(counted(16_000), NOW)).through
    # What was counted before a compaction is not the size after it.
    assert await desk.compact([*counted(16_000), RenderedTurn("five", (), 0)], NOW) == ()


async def test_a_conversation_is_measured_by_the_window_of_the_model_that_answers() -> None:
    desk = Desk()
    desk.context = Compactor(WINDOW, desk.small, window_of={"tiny": 4_000, "huge": 900_000}.__getitem__)
    shown: dict[str, bool] = {}
    for model in ("huge", "tiny"):
        added = await desk.context.compact(turns(4), NOW, instructions="", tools=(), on_delta=desk.tell, model=model)
        shown[model] = bool(added)
    assert shown == {"huge": False, "tiny": True}
    assert desk.context.share(turns(4), NOW, instructions="", tools=(), model="tiny") > 1


async def test_nothing_is_summed_up_by_itself_where_people_do_that() -> None:
    desk = Desk()
    desk.context = Compactor(WINDOW, desk.small, auto=False)
    assert await desk.compact(turns(8), NOW) == ()
    assert await desk.compact(turns(8), NOW, force=True) == ()


async def test_everything_is_summed_up_on_request_with_what_matters() -> None:
    desk, past = Desk(), turns(3)
    logged = await desk.context.summarize(past, focus="the ships")
    assert logged == (Spent(1, USAGE, "small", "summary"), Compacted(1, "turn 3", SUMMARY))
    assert "the ships" in desk.small.requests[0].instructions
    shown = conversation([*past, RenderedTurn("four", ())], (*NOW, *logged))
    assert SUMMARY in texts(shown[:1])
    assert "question of turn 3" not in texts(shown)
    assert await desk.context.summarize(turns(1, 10)) is None
    assert await desk.context.summarize(()) is None


async def test_nothing_is_removed_on_request_without_a_summary() -> None:
    with pytest.raises(NoSummary, match="is down"):
        await Desk(ScriptedModel(ModelError("server", "The model is down."))).context.summarize(turns(3))


async def test_of_a_long_turn_the_oldest_steps_are_summed_up_and_all_words_are_kept() -> None:
    desk, past, entries = Desk(), turns(1, 100), steps(30)
    logged = await desk.compact(past, entries)
    compaction = summarised(logged)
    assert compaction.through == "turn 1"
    shown = conversation(past, (*entries, *logged))
    assert_complete(shown)
    assert "And now?" in texts(shown)
    assert "result 30 " in texts(shown)
    assert "result 1 " not in texts(shown)
    assert "result 1 " in desk.asked()
    assert 2 < compaction.step <= 30


async def test_a_call_that_is_not_over_is_not_covered() -> None:
    entries = tuple(entry for entry in steps(30) if not (isinstance(entry, CallEnded) and entry.call_id == "c5"))
    assert summarised(await Desk().compact((), entries)).step == 5


async def test_the_last_step_is_covered_only_when_nothing_else_helps() -> None:
    desk, entries = Desk(), steps(1, 18_000)
    assert await desk.compact((), entries) == ()
    logged = await desk.compact((), entries, force=True)
    assert summarised(logged).step == 2
    assert [type(item) for item in conversation((), (*entries, *logged))] == [SystemNote, MessagesRead]


async def test_todos_are_carried_over_word_for_word_again_and_again() -> None:
    arguments = '{"items": [{"text": "Paint the bow", "state": "done"}, {"text": "Paint the stern"}]}'
    desk, entries = Desk(), (*steps(1, name="todos", arguments=arguments), *steps(30)[3:])
    for _ in range(2):
        compaction = summarised(await desk.compact((), entries))
        assert (
            compaction.summary == f"{SUMMARY}\n\nThe to-do list as it stands:\n[x] Paint the bow\n[ ] Paint the stern"
        )
        more = len([entry for entry in entries if isinstance(entry, ModelAnswered)]) + 30
        entries = (*entries, compaction, *steps(more)[2 * more - 59 :])


async def test_todos_that_are_still_in_sight_are_not_repeated() -> None:
    arguments = '{"items": [{"text": "Paint the bow"}]}'
    assert summarised(await Desk().compact((), steps(30, name="todos", arguments=arguments))).summary == SUMMARY


async def test_open_decisions_are_carried_over_and_made_ones_are_not() -> None:
    asked = [ApprovalRequested(id, "call", f"May I {id}?", ("yes", "no"), 1.0) for id in ("sail", "row")]
    logged = await Desk().compact((), (*steps(30), *asked, ApprovalDecided("row", "denied")))
    assert summarised(logged).summary.endswith("Not yet decided by people:\nMay I sail?")


@pytest.mark.parametrize("answer", [ModelError("server", "The provider has a fault."), "", "  \n"])
async def test_without_a_summary_the_same_is_left_out_and_that_is_said(answer: str | ModelError) -> None:
    desk, past = Desk(ScriptedModel(answer)), turns(8)
    logged = await desk.compact(past, NOW)
    compaction = summarised(logged)
    assert (compaction.through, compaction.left_out) == ("turn 6", True)
    assert compaction.summary.startswith("6 earlier turns were removed here without a summary")
    assert "6 earlier turns were removed" in texts(conversation(past, (*NOW, *logged))[:1])


async def test_an_earlier_summary_outlives_one_that_cannot_be_had() -> None:
    past = turns(8)
    before = RenderedTurn("turn 0", tuple(transcript((*NOW, Compacted(1, "", SUMMARY))))[:1])
    compaction = summarised(await Desk(ScriptedModel("")).compact([before, *past], NOW))
    assert SUMMARY in compaction.summary


async def test_a_small_model_with_a_small_window_is_asked_about_less() -> None:
    too_long = ModelError("too_long", "Too long.")
    desk = Desk(ScriptedModel(too_long, too_long, SUMMARY))
    assert summarised(await desk.compact(turns(8), NOW)).summary == SUMMARY
    lengths = [len(desk.asked(number)) for number in range(3)]
    assert lengths == sorted(set(lengths), reverse=True)


async def test_a_refused_conversation_is_made_smaller_until_nothing_can_be_covered() -> None:
    desk, past, entries = Desk(window=200_000), turns(8), NOW
    sizes = [estimate_transcript(conversation(past, entries))]
    while logged := await desk.compact(past, entries, force=True):
        entries = (*entries, *logged)
        sizes.append(estimate_transcript(conversation(past, entries)))
    assert len(sizes) > 2
    assert sizes == sorted(set(sizes), reverse=True)
    assert conversation(past, entries)[1:] == list(NOW)


async def test_words_alone_cannot_be_covered() -> None:
    entries = (MessagesRead(1, (UserMessage(1, "Ann", "word " * 50_000),)),)
    desk = Desk()
    assert await desk.compact((), entries) == ()
    assert await desk.compact((), entries, force=True) == ()
    assert desk.small.requests == []


async def test_summing_up_can_be_stopped() -> None:
    desk = Desk(ScriptedModel(["They", asyncio.Event()]))
    async with asyncio.timeout(60):
        task = asyncio.create_task(desk.compact(turns(8), NOW))
        await desk.small.asked()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_summary_that_is_too_long_is_cut() -> None:
    summary = summarised(await Desk(ScriptedModel("s" * 100_000)).compact(turns(8), NOW)).summary
    assert len(summary) == 8000
    assert summary.endswith("…")


@given(pasts, logs, st.integers(1000, 12_000), st.booleans(), st.sampled_from([0, 6, 100_000]))
def test_summing_up_keeps_calls_whole_and_words_as_they_are_and_never_makes_it_longer(
    past: tuple[RenderedTurn, ...], log: tuple[Entry, ...], window: int, force: bool, length: int
) -> None:
    desk = Desk(ScriptedModel(*["s" * length] * 3), window=window)
    before = conversation(past, log)
    for _ in range(3):
        logged = asyncio.run(desk.compact(past, log, force=force))
        log = (*log, *logged)
        after = conversation(past, log)
        assert_complete(after)
        own = [entry for entry in log if isinstance(entry, MessagesRead)]
        assert [item for item in after if isinstance(item, MessagesRead)][-len(own) :] == own
        shorter = estimate_transcript(after) < estimate_transcript(before)
        assert shorter if logged else after == before
        before = after


# In a turn


class Talk:
    """A turn with a model whose window is small, from its first word to its end."""

    def __init__(
        self,
        model: ScriptedModel,
        small: ScriptedModel,
        workspace: Path,
        *tools: Tool,
        past: Sequence[RenderedTurn] | None = None,
        full_at: float = 0.8,
        reserve: int = RESERVED_TOKENS,
    ) -> None:
        self.journal = MemoryJournal()
        self.journal.say("Look at everything.")
        compactor = Compactor(WINDOW, small, full_at=full_at, reserve=reserve)
        agent = Agent(model, MemoryMedia(), workspace, tools, max_steps=200, compactor=compactor)
        self.turn = Turn(agent, self.journal, self._emit, id="turn", entries=(), past=past or turns(2))

    async def _emit(self, event: Event) -> None: ...

    async def play(self) -> Ended | None:
        async with asyncio.timeout(60):
            return await self.turn.run()


@tool(effect="read")
async def look(context: ToolContext, at: int) -> str:
    """Looks at something."""
    return f"seen {at} " + "r" * 4000


async def test_a_turn_of_a_hundred_steps_never_shows_the_model_more_than_fits(tmp_path: Path) -> None:
    model = ScriptedModel(*[[Call("", "look", f'{{"at": {number}}}')] for number in range(100)], "I have looked.")
    small = ScriptedModel(*[SUMMARY] * 20)
    talk = Talk(model, small, tmp_path, look)
    assert await talk.play() == Ended("completed")
    assert 5 < len(small.requests) < 20
    for request in model.requests:
        assert estimate_transcript(request.transcript) < 13_000
        assert "Look at everything." in texts(request.transcript)
        assert_complete(list(request.transcript))
    assert "seen 99 " in texts(model.requests[-1].transcript)


async def test_a_turn_that_is_too_long_for_its_model_goes_on_with_less(tmp_path: Path) -> None:
    model = ScriptedModel(ModelError("too_long", "Too long."), "Here I am.")
    talk = Talk(model, ScriptedModel(SUMMARY), tmp_path)
    assert await talk.play() == Ended("completed")
    assert SUMMARY in texts(model.requests[1].transcript[:1])
    assert "question of turn 1" in texts(model.requests[0].transcript)
    assert "question of turn 1" not in texts(model.requests[1].transcript)


@pytest.mark.parametrize(("filled", "asked"), [(19_000, 2), (12_000, 1)])
async def test_an_unclear_rejection_counts_as_too_long_once_if_the_window_is_nearly_full(
    tmp_path: Path, filled: int, asked: int
) -> None:
    model = ScriptedModel(ModelError("bad_request", "No.", status=400), "Here I am.")
    past = [*turns(2), turn("big", filled - 4_500)]
    talk = Talk(model, ScriptedModel(SUMMARY), tmp_path, past=past, full_at=1.0, reserve=0)
    ended = await talk.play()
    assert ended is not None
    assert (ended.outcome, len(model.requests)) == ("completed" if asked == 2 else "failed", asked)


async def test_what_is_said_while_a_turn_is_summed_up_is_heard_and_a_stop_ends_it(tmp_path: Path) -> None:
    model = ScriptedModel(ModelError("too_long", "Too long."), ModelError("too_long", "Too long."))
    small = ScriptedModel(["They", asyncio.Event()], ["They", asyncio.Event()])
    talk = Talk(model, small, tmp_path)
    async with asyncio.timeout(60):
        running = asyncio.create_task(talk.turn.run())
        await small.asked()
        talk.journal.say("And be quick.")
        await small.asked(2)
        assert "And be quick." in texts(model.requests[1].transcript)
        talk.turn.stop("the person stopped it")
        assert await running == Ended("stopped", "the person stopped it")


# HistoryCache


class Shelf:
    """Past turns as a store gives them."""

    def __init__(self, *past: PastTurn) -> None:
        self.past = past

    async def history(self, session: str) -> tuple[PastTurn, ...]:
        return self.past


def ended(name: str, *entries: Entry) -> PastTurn:
    heard = MessagesRead(1, (UserMessage(1, "Ann", f"question of {name}"),))
    answer = ModelAnswered(2, (Text(f"answer of {name}"),))
    return PastTurn(name, "completed", (heard, *entries, answer, Ended("completed")))


async def test_past_turns_that_were_summed_up_are_forgotten_and_the_same_ones_after_a_restart() -> None:
    past = [ended("one"), ended("two"), ended("three"), ended("four", Compacted(1, "two", SUMMARY)), ended("five")]
    running = HistoryCache(Shelf())
    await running.of("s", after="")
    for each in past:
        running.add("s", each.id, each.entries)
    known = await running.of("s")
    assert [each.id for each in known] == ["two", "three", "four", "five"]
    shown = texts(conversation(known))
    assert shown.count(SUMMARY) == 1
    assert "question of one" not in shown
    assert "answer of two" not in shown
    assert "answer of three" in shown
    assert await HistoryCache(Shelf(*past)).of("s") == known


async def test_a_history_to_which_another_process_has_added_is_read_again() -> None:
    shelf = Shelf(ended("one"))
    histories = HistoryCache(shelf)
    assert [each.id for each in await histories.of("s", after="one")] == ["one"]
    shelf.past = (ended("one"), ended("two"))
    assert [each.id for each in await histories.of("s", after="one")] == ["one"], "it is not read without a reason"
    assert [each.id for each in await histories.of("s", after="two")] == ["one", "two"]


# Long results


async def test_a_short_result_is_shown_whole() -> None:
    assert await truncate_result("r" * 24_000, "shell-1", MemoryMedia()) == ("r" * 24_000, None)


async def test_of_a_long_result_the_model_sees_both_ends_and_reads_the_rest_in_the_workspace(tmp_path: Path) -> None:
    media = MemoryMedia()
    text = "".join(f"line {number}\n" for number in range(1, 20_001))
    seen, full = await truncate_result(text, "shell-t_1_0", media)
    assert full is not None
    assert full.name == "shell-t_1_0.txt"
    assert seen.startswith("line 1\n")
    assert seen.endswith("line 20000\n")
    assert len(seen) < 18_500
    assert (await media.read(full)).decode() == text
    await copy_to_workspace(full_results([CallEnded("t_1_0", "done", seen, full=full)]), tmp_path, media)
    head, _, rest = seen.partition("\n[…")
    offset = int(rest.partition("offset=")[2].partition("]")[0])
    path = rest.partition("workspace as ")[2].partition(";")[0]
    page = await read(tmp_path, path=path, offset=offset, limit=1)
    assert page.startswith(f"line {head.count('line ') + 1}\n")


async def test_a_long_line_is_read_on_in_its_middle(tmp_path: Path) -> None:
    media = MemoryMedia()
    text = "".join(f"{number:06}" for number in range(30_000))
    seen, full = await truncate_result(text, "shell-t_1_0", media)
    assert full is not None
    assert "offset=1, start=12000]" in seen
    await copy_to_workspace(full_results([CallEnded("t_1_0", "done", seen, full=full)]), tmp_path, media)
    path = seen.partition("workspace as ")[2].partition(";")[0]
    page = await read(tmp_path, path=path, start=12_000)
    assert page.startswith("002000002001")
    assert page.endswith("[line 1 has 180,000 characters and was cut here; its rest: start=72000]")


async def test_the_files_of_long_results_are_found_in_past_turns_too() -> None:
    _, full = await truncate_result("r" * 30_000, "shell-1", MemoryMedia())
    log = (*NOW, ModelAnswered(1, (Call("c", "shell", "{}"),)), CallEnded("c", "done", "r", full=full))
    assert full_results([*transcript(log), *log]) == [full]


async def test_a_result_that_cannot_be_kept_is_shortened_and_says_so() -> None:
    seen, full = await truncate_result("r" * 30_000, "shell-1", MemoryMedia(max_bytes=10))
    assert full is None
    assert "12,000 characters are left out here, and could not be stored: shell-1.txt has 30,000 bytes" in seen


async def test_what_is_read_page_by_page_is_not_cut_again() -> None:
    assert await truncate_result("r" * 60_000, "read_file-1", MemoryMedia()) == ("r" * 60_000, None)


async def read(workspace: Path, **arguments: object) -> str:
    async def progress(text: str) -> None: ...

    result = await read_file.run(ToolContext(workspace, MemoryMedia(), progress), **arguments)
    assert isinstance(result, str)
    return result


# Windows


@pytest.mark.parametrize(
    ("name", "window"),
    [
        ("openai:gpt-5-mini", 272_000),
        ("gpt-4o-2024-08-06", 128_000),
        ("anthropic:claude-haiku-4-5", 200_000),
        ("openai:anthropic/claude-sonnet-5", 1_000_000),
        ("openai:qwen3:8b", 128_000),
        ("openrouter:anthropic/claude-sonnet-4.6", 1_000_000),
        ("openrouter:openai/gpt-4.1-mini:free", 1_000_000),
        ("google:gemini-2.5-flash", 1_000_000),
        ("google:models/gemini-1.5-pro", 2_000_000),
        ("ollama:gpt-oss:20b", 131_072),
        ("gpu-box:openai/gpt-oss-120b", 131_072),
        ("demo", 128_000),
    ],
)
def test_a_models_window_goes_by_how_its_name_begins(name: str, window: int) -> None:
    assert context_window_of(name) == window


def test_the_page_on_context_has_the_numbers_of_the_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "guides" / "context.md").read_text()
    for number in (DEFAULT, RESERVED_TOKENS, MAX_SUMMARY_TOKENS, MAX_RESULT_LENGTH, HEAD_LENGTH, TAIL_LENGTH):
        assert f"{number:,} " in page
    assert SUMMARIZING in page
    assert f"at most {MAX_ITEMS} items of at most {MAX_ITEM_LENGTH} characters" in page

"""The chain of hooks: order, changes, rulings, limits, failures and observers."""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, get_args

import pytest

from agent.hook import (
    Ask,
    Deny,
    End,
    HookContext,
    MessageIn,
    ModelAnswer,
    ModelRequest,
    Point,
    ReplyPart,
    Respond,
    Ruled,
    Ruling,
    Stop,
    Subject,
    ToolCall,
    ToolEnd,
)
from agent.hooks.chain import HookChain, RegisteredHook
from agent.hooks.python import PythonHook
from agent.hooks.runner import HookError
from agent.media import Attachment, NewFile
from agent.model import ModelSettings

HERE = HookContext(session="s", channel="terminal", run_id="r", sender="Ada")

MESSAGE = MessageIn("hello")
REQUEST = ModelRequest(1, ("hello",), "Be kind.", ("shell", "read_file"))
ANSWER = ModelAnswer(1, "hi", "demo", ("shell",))
CALL = ToolCall("c1", "shell", {"command": "ls"}, "external", tools={"shell": "external", "read_file": "read"})
RESULT = ToolEnd("c1", "shell", "done", "a.txt")
PART = ReplyPart("text", "hi")

SUBJECTS: dict[Point, Subject] = {
    "on_message": MESSAGE,
    "before_model": REQUEST,
    "after_model": ANSWER,
    "before_tool": CALL,
    "approve_tool": CALL,
    "after_tool": RESULT,
    "before_reply": PART,
}
VALID: dict[Point, str] = {
    "on_message": "Deny",
    "before_model": "Respond End Stop",
    "after_model": "End Stop",
    "before_tool": "Respond Ask Deny End Stop",
    "approve_tool": "Ask Deny End Stop",
    "after_tool": "End Stop",
    "before_reply": "Deny End Stop",
}
RULINGS: list[Ruling] = [Respond("x"), Ask("x"), Deny("x"), End("x"), Stop("x")]

Method = Callable[[HookContext, Any], Awaitable[Any]]


def hook(point: Point, method: Method, name: str = "x", **options: Any) -> RegisteredHook:
    return RegisteredHook(name, PythonHook({point: method}), (point,), **options)


def saying(said: Any) -> Method:
    async def method(context: HookContext, subject: Any) -> Any:
        return said

    return method


def raising(error: BaseException) -> Method:
    async def method(context: HookContext, subject: Any) -> Any:
        raise error

    return method


def adding(word: str) -> Method:
    async def method(context: HookContext, message: MessageIn) -> MessageIn:
        return replace(message, text=f"{message.text} {word}")

    return method


async def asked(point: Point, *hooks: RegisteredHook, subject: Subject | None = None) -> tuple[Subject, Ruled | None]:
    async with HookChain(hooks) as chain:
        return await chain.ask(point, HERE, subject or SUBJECTS[point])


async def test_hooks_are_asked_by_priority_then_name_and_each_sees_what_the_one_before_made_of_it() -> None:
    hooks = [
        hook("on_message", adding("last"), "a", priority=200),
        hook("on_message", adding("third"), "c"),
        hook("on_message", adding("second"), "b"),
        hook("on_message", adding("first"), "z", priority=1),
    ]
    for order in itertools.permutations(hooks):
        assert await asked("on_message", *order) == (MessageIn("hello first second third last"), None)


async def test_the_first_ruling_ends_the_asking_and_names_its_hook() -> None:
    later = asyncio.Event()

    async def look(context: HookContext, message: MessageIn) -> None:
        later.set()

    first, second = hook("on_message", adding("x"), "a"), hook("on_message", saying(Deny("no")), "b")
    third = hook("on_message", look, "c")
    assert await asked("on_message", first, second, third) == (MessageIn("hello x"), Ruled(Deny("no"), "b"))
    assert not later.is_set()


async def test_a_trusted_hooks_ruling_says_so() -> None:
    _, ruled = await asked("before_tool", hook("before_tool", saying(Respond("42")), trusted=True))
    assert ruled == Ruled(Respond("42"), "x", trusted=True)


async def test_a_chain_is_active_where_a_hook_stands_and_only_there() -> None:
    async with HookChain([hook("before_tool", saying(None))]) as chain:
        assert [point for point in get_args(Point) if chain.active(point)] == ["before_tool"]
        assert await chain.ask("before_model", HERE, REQUEST) == (REQUEST, None)


def test_two_hooks_of_one_name_are_refused() -> None:
    with pytest.raises(HookError, match="two hooks named 'x'"):
        HookChain([hook("before_tool", saying(None)), hook("after_tool", saying(None))])


@pytest.mark.parametrize(("point", "ruling"), list(itertools.product(SUBJECTS, RULINGS)))
async def test_each_point_takes_its_rulings_and_no_other(point: Point, ruling: Ruling) -> None:
    _, ruled = await asked(point, hook(point, saying(ruling), on_error="closed"))
    assert ruled is not None
    if type(ruling).__name__ in VALID[point].split():
        assert ruled.ruling == ruling
    else:
        assert ruled.ruling.reason.startswith("the hook 'x' failed: ")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("point", "now"),
    [
        ("on_message", MessageIn("bye", "said twice")),
        (
            "before_model",
            replace(
                REQUEST,
                instructions="Be brief.",
                notices=("It is late.",),
                model="openai:gpt-5-mini",
                settings=ModelSettings(temperature=0.5, max_tokens=10),
                tools=("read_file",),
            ),
        ),
        ("after_model", replace(ANSWER, text="ho")),
        ("before_tool", replace(CALL, arguments={"command": "ls", "deep": [1, {"a": None}]})),
        ("before_tool", replace(CALL, tool="read_file", effect="read")),
        ("after_tool", replace(RESULT, text="b.txt", for_user="**b**")),
        ("before_reply", replace(PART, text="")),
    ],
)
async def test_what_may_be_changed_is_changed(point: Point, now: Subject) -> None:
    said = replace(now, effect=CALL.effect) if isinstance(now, ToolCall) else now
    assert await asked(point, hook(point, saying(said))) == (now, None)


@pytest.mark.parametrize(
    ("point", "now", "why"),
    [
        ("on_message", MessageIn("hello", files=("a.png",)), "files cannot be changed here"),
        ("before_model", replace(REQUEST, messages=("bye",)), "messages cannot be changed here"),
        ("before_model", replace(REQUEST, step=2), "step cannot be changed here"),
        ("before_model", replace(REQUEST, tools=("shell", "dig")), "tools can only be removed, not added: dig"),
        ("before_model", replace(REQUEST, tools=("shell", "shell")), "tools can only be removed"),
        ("before_model", replace(REQUEST, notices=["a list"]), "notices: Input should be a valid tuple"),  # type: ignore[arg-type]
        ("before_model", replace(REQUEST, settings=ModelSettings(temperature="hot")), "settings.temperature: "),  # type: ignore[arg-type]
        ("after_model", replace(ANSWER, tools=()), "tools cannot be changed here"),
        ("before_tool", replace(CALL, tools={"dig": "read"}), "tools cannot be changed here"),
        ("before_tool", Respond("x", files=(NewFile("a.png", "text"),)), "files.0.data: Input should be a valid bytes"),  # type: ignore[arg-type]
        ("before_tool", Respond("x", images=("a.png",)), "images.0: "),  # type: ignore[arg-type]
        ("before_tool", Respond("x", final=1), "final: Input should be a valid boolean"),  # type: ignore[arg-type]
        ("before_tool", Respond("x", (NewFile("a", b"1"),) * 21), "a result may have 20 files and images, not 21"),
        ("before_model", Respond("x", for_user="y"), "only a text can be the model's answer"),
        ("approve_tool", replace(CALL, tool="read_file"), "tool cannot be changed here"),
        ("before_tool", replace(CALL, effect="read"), "effect cannot be changed here"),
        ("before_tool", replace(CALL, arguments={"command": object()}), "arguments.command: "),
        ("before_tool", replace(CALL, arguments={1: 2}), "arguments.1"),  # type: ignore[dict-item]
        ("approve_tool", replace(CALL, arguments={}), "arguments cannot be changed here"),
        ("after_tool", replace(RESULT, outcome="failed"), "outcome cannot be changed here"),
        ("before_reply", replace(PART, text=5), "text: Input should be a valid string"),  # type: ignore[arg-type]
        ("before_reply", replace(PART, attachment=Attachment("0", "a", "b", 1)), "attachment cannot be changed here"),
        ("before_reply", "hello", "str is not a valid answer at before_reply"),
        ("before_reply", MESSAGE, "MessageIn is not a valid answer"),
        ("before_reply", Deny(None), "the text of Deny must be a string, not NoneType"),  # type: ignore[arg-type]
    ],
)
async def test_what_may_not_be_changed_is_an_error_of_the_hook(
    point: Point, now: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    said = hook(point, saying(now), on_error="open")
    assert await asked(point, said) == (SUBJECTS[point], None)
    assert why in caplog.text


async def test_arguments_changed_in_place_change_nothing() -> None:
    async def spoil(context: HookContext, call: ToolCall) -> None:
        call.arguments["command"] = "rm -rf /"  # type: ignore[index]
        call.tools["shell"] = "read"  # type: ignore[index]

    call = ToolCall("c1", "shell", {"command": "ls"}, "external", tools=dict(CALL.tools))
    now, ruled = await asked("approve_tool", hook("approve_tool", spoil), subject=call)
    assert (now, ruled) == (CALL, None)
    assert call == CALL


@pytest.mark.parametrize(
    "error", [ValueError("oops"), HookError("oops"), TimeoutError("oops"), SystemExit("oops"), GeneratorExit("oops")]
)
async def test_an_interceptor_that_raises_is_logged_and_counts_as_going_on(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    assert await asked("before_tool", hook("before_tool", raising(error), "broken")) == (CALL, None)
    assert "hook broken failed at before_tool, treated as continue" in caplog.text
    assert "oops" in caplog.text


async def test_an_approver_that_raises_denies() -> None:
    _, ruled = await asked("approve_tool", hook("approve_tool", raising(ValueError("oops"))))
    assert ruled == Ruled(Deny("the hook 'x' failed: ValueError: oops"), "x")


async def test_an_operator_may_have_an_approver_fail_open() -> None:
    assert await asked("approve_tool", hook("approve_tool", raising(ValueError()), on_error="open")) == (CALL, None)


@pytest.mark.parametrize("point", SUBJECTS)
async def test_an_operator_may_have_a_hook_fail_closed_anywhere(point: Point) -> None:
    _, ruled = await asked(point, hook(point, raising(ValueError("oops")), on_error="closed"))
    ruling = Deny if "Deny" in VALID[point] else End
    assert ruled == Ruled(ruling("the hook 'x' failed: ValueError: oops"), "x")


async def test_a_hook_that_fails_lets_the_next_one_speak() -> None:
    broken, next_one = hook("on_message", raising(ValueError()), "a"), hook("on_message", adding("x"), "b")
    assert await asked("on_message", broken, next_one) == (MessageIn("hello x"), None)


async def test_a_hook_that_takes_too_long_is_ended() -> None:
    ended = asyncio.Event()

    async def wait(context: HookContext, call: ToolCall) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    _, ruled = await asked("approve_tool", hook("approve_tool", wait, timeout=0.01))
    assert ruled == Ruled(Deny("the hook 'x' failed: it timed out after 0.01 s"), "x")
    assert ended.is_set()


async def test_a_hook_that_ignores_its_end_is_left_behind() -> None:
    enough = asyncio.Event()

    async def ignore(context: HookContext, call: ToolCall) -> None:
        while not enough.is_set():
            try:
                await enough.wait()
            except asyncio.CancelledError:
                continue

    async with asyncio.timeout(60):
        _, ruled = await asked("approve_tool", hook("approve_tool", ignore, timeout=0.01))
    assert ruled == Ruled(Deny("the hook 'x' failed: it timed out after 0.01 s"), "x")
    enough.set()


async def test_a_hook_that_cancels_itself_cancels_nobody_else() -> None:
    _, ruled = await asked("approve_tool", hook("approve_tool", raising(asyncio.CancelledError())))
    assert ruled == Ruled(Deny("the hook 'x' failed: it cancelled itself"), "x")


async def test_cancelling_who_asks_passes_through_and_ends_the_hook() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def wait(context: HookContext, call: ToolCall) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    asking = asyncio.create_task(asked("approve_tool", hook("approve_tool", wait, timeout=60)))
    await begun.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert ended.is_set()


async def test_observers_see_every_event_in_order_and_the_last_ones_before_the_end() -> None:
    seen: list[tuple[str, int]] = []

    async def see(context: HookContext, event: Any) -> None:
        await asyncio.sleep(0)
        seen.append((context.sender, event["n"]))

    async with HookChain([hook("on_event", see)]) as chain:
        for number in range(500):
            chain.observe(HERE, {"n": number})
    assert seen == [("Ada", number) for number in range(500)]


async def test_an_observer_that_is_too_slow_misses_the_oldest_events_which_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[int] = []
    go_on, all_seen = asyncio.Event(), asyncio.Event()

    async def see(context: HookContext, event: Any) -> None:
        await go_on.wait()
        seen.append(event["n"])
        if event["n"] == 2999:
            all_seen.set()

    async with HookChain([hook("on_event", see, timeout=60)]) as chain:
        for number in range(3000):
            chain.observe(HERE, {"n": number})
        go_on.set()
        async with asyncio.timeout(60):
            await all_seen.wait()
    assert seen == list(range(2000, 3000))
    assert "hook x was too slow for the events: 2000 were dropped" in caplog.text


async def test_an_observer_that_fails_is_told_of_once_and_sees_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []

    async def see(context: HookContext, event: Any) -> None:
        if event["n"] < 5:
            raise ValueError("not that one")
        seen.append(event["n"])

    async with HookChain([hook("on_event", see)]) as chain:
        for number in range(7):
            chain.observe(HERE, {"n": number})
    assert seen == [5, 6]
    assert caplog.text.count("not that one") == 1
    assert "failed at 5 events" in caplog.text


async def test_an_observer_that_hangs_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    async def hang(context: HookContext, event: Any) -> None:
        await asyncio.Event().wait()

    caplog.set_level(logging.WARNING)
    async with asyncio.timeout(60), HookChain([hook("on_event", hang, timeout=3600)]) as chain:
        chain.observe(HERE, {})
        chain.observe(HERE, {})
        chain.observe(HERE, {})
    assert "has not processed the last" in caplog.text

"""Steps: what a model is asked, and how it answers. A request stays open until a step ends it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import get_args

from agent.model import ModelErrorKind
from tests.scenarios.forms import difference, fits, request_lines
from tests.scenarios.models import Act, Asked, Breaks, Calls, Ends, Fails, Says, Thinks
from tests.scenarios.steps import step
from tests.scenarios.steps_people import repeated
from tests.scenarios.world import World, Wrong

_CALL = re.compile(r"(?P<name>\w+)(?: (?P<arguments>.*))?")
_CALLS_ON_A_LINE = re.compile(r"\w+(?: \{[^}]*\})?(?:, \w+(?: \{[^}]*\})?)*")


@step("{model} is asked")
async def is_asked(world: World, model: str) -> None:
    """The model has been asked and has not begun to answer."""
    await world.request(model)


@step("{model} begins: {text}")
async def begins(world: World, model: str, text: str) -> None:
    """The answer begins with these words, and goes on."""
    await (await _fresh(world, model)).act(Says(text))
    await world.text_shown(text)


@step("{model} goes on: {text}")
async def goes_on(world: World, model: str, text: str) -> None:
    """More of an answer that has begun."""
    await (await _begun(world, model)).act(Says(text))
    await world.text_shown(text)


@step("{model} thinks: {text}")
async def thinks(world: World, model: str, text: str) -> None:
    """Reasoning, before or in an answer."""
    await (await world.request(model)).act(Thinks(text))


@step("{model} ends with: {text}")
async def ends_with(world: World, model: str, text: str) -> None:
    """The rest of an answer that has begun."""
    await _end(world, await _begun(world, model), Says(text), Ends())


@step("{model} ends by calling: {text}")
async def ends_by_calling(world: World, model: str, text: str) -> None:
    """The answer that has begun closes with these calls."""
    await _end(world, await _begun(world, model), *_calls(text), Ends())


@step("{model} says: {text}")
async def says(world: World, model: str, text: str) -> None:
    """A whole answer in words."""
    await _end(world, await _fresh(world, model), Says(text), Ends())


@step("{model} says {number} lines of: {text}")
async def says_at_length(world: World, model: str, number: str, text: str) -> None:
    """A long answer: these words with a number behind them, line after line."""
    await _end(world, await _fresh(world, model), Says(repeated(text, int(number))), Ends())


@step("{model} calls: {text}")
async def calls(world: World, model: str, text: str) -> None:
    """An answer of calls: `look {"path": "a"}, change` on one line, or one a line below it, in any form."""
    await _end(world, await _fresh(world, model), *_calls(text), Ends())


@step("{model} answers nothing")
async def answers_nothing(world: World, model: str) -> None:
    """An answer without words and calls."""
    await _end(world, await _fresh(world, model), Ends())


@step("{model} is cut off after: {text}")
async def is_cut_off(world: World, model: str, text: str) -> None:
    """The answer ends here at its length limit."""
    await _end(world, await world.request(model), Says(text), Ends("length"))


@step("{model} is cut off in a call: {text}")
async def is_cut_off_in_a_call(world: World, model: str, text: str) -> None:
    """The answer ends at its length limit, in the middle of a call's arguments perhaps."""
    await _end(world, await world.request(model), *_calls(text), Ends("length"))


@step("{model} fails: {name}")
async def fails(world: World, model: str, name: str) -> None:
    """The model cannot answer, or not go on; `name` is a kind of error."""
    await _fail(world, model, name, "")


@step("{model} fails: {name}, {quoted}")
async def fails_in_words(world: World, model: str, name: str, quoted: str) -> None:
    """And this is what it says about it."""
    await _fail(world, model, name, quoted)


async def _fail(world: World, model: str, kind: str, words: str) -> None:
    known: tuple[ModelErrorKind, ...] = get_args(ModelErrorKind)
    for each in known:
        if each == kind:
            await _end(world, await world.request(model), Fails(each, words))
            return
    raise Wrong(f"there is no kind of error {kind!r}; there are: {', '.join(known)}")


@step("{model} breaks: {text}")
async def breaks(world: World, model: str, text: str) -> None:
    """The model's client has a fault of its own."""
    await _end(world, await world.request(model), Breaks(text))


@step("{model} is interrupted")
async def is_interrupted(world: World, model: str) -> None:
    """The gateway has given up the request that was open."""
    asked = await world.request(model)
    await asked.until_cancelled()
    world.dealt_with(asked)


@step("{model} sees: {block}", "look")
async def sees(world: World, model: str, block: tuple[str, ...]) -> None:
    """What the model reads that it had not read when it was last asked, in full."""
    lines = request_lines((await world.request(model)).messages)
    seen_before = world.seen_before.get(model, [])
    before = max((seen for seen in seen_before if lines[: len(seen)] == seen), key=len, default=[])
    _compare(block, lines[len(before) :])


@step("{model} sees in all: {block}", "look")
async def sees_in_all(world: World, model: str, block: tuple[str, ...]) -> None:
    """All that the model reads but its instructions."""
    _compare(block, request_lines((await world.request(model)).messages))


@step("{model} has these tools: {text}", "look")
async def has_tools(world: World, model: str, text: str) -> None:
    """The tools that the model is offered, in their order."""
    _compare([text], [", ".join((await world.request(model)).tools)])


@step("{model} must answer in words", "look")
async def must_answer_in_words(world: World, model: str) -> None:
    """The model may call no tools."""
    if not (await world.request(model)).text_only:
        raise Wrong("the model may call tools")


@step("{model} may call tools", "look")
async def may_call_tools(world: World, model: str) -> None:
    """The model is not told to answer in words."""
    if (await world.request(model)).text_only:
        raise Wrong("the model must answer in words")


def _compare(expected: Sequence[str], seen: Sequence[str]) -> None:
    expected = [line for line in expected if line]
    if not fits(expected, seen):
        raise Wrong(f"it is asked something else:\n{difference(expected, seen)}")


async def _fresh(world: World, model: str) -> Asked:
    asked = await world.request(model)
    if asked.begun:
        raise Wrong("the model has begun to answer: it `goes on`, `ends with` or `is interrupted`")
    return asked


async def _begun(world: World, model: str) -> Asked:
    asked = world.met(model)
    if asked is None or not asked.begun:
        raise Wrong("the model has not begun to answer: it `begins` or `says`")
    return asked


async def _end(world: World, asked: Asked, *acts: Act) -> None:
    await asked.act(*acts)
    world.dealt_with(asked)


def _calls(text: str) -> Iterator[Calls]:
    if "\n" not in text and _CALLS_ON_A_LINE.fullmatch(text):
        text = re.sub(r", (?=\w+(?: \{|,|$))", "\n", text)
    for line in text.splitlines():
        match = _CALL.fullmatch(line)
        if match is None:
            raise Wrong(f"a call is written as `name arguments`, not as `{line}`")
        yield Calls(match["name"], match["arguments"] or "")

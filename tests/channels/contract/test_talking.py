"""Talking: what is said is read once, in order, and answered once."""

from __future__ import annotations

import re
from functools import partial

from tests.channels.contract.home import (
    Stage,
    Words,
    lines,
)
from tests.channels.contract.rows import (
    WAIT_FOR_GO,
    over,
    over_streams,
    read_by_model,
    shows,
)
from tests.servers.models import Call, Fail, Pause, Say


@over_streams()
async def test_a_direct_message_is_answered_once(stage: Stage) -> None:
    stage.models.script(Say("Good morning."))
    async with stage.conversation() as ann:
        await ann.say("hi")
    assert lines(ann) == ["Good morning."]
    assert read_by_model(stage.models.requests[0]) == ["hi"]
    assert len(stage.models.requests) == 1


@over()
async def test_each_question_has_its_answer_in_order(stage: Stage) -> None:
    async with stage.conversation() as ann:
        for number in range(4):
            await ann.say(f"question {number}")
            await ann.until(partial(shows, ann, f"You said: question {number}"))
    assert lines(ann) == [f"You said: question {number}" for number in range(4)]
    assert read_by_model(stage.models.requests[-1]) == [f"question {number}" for number in range(4)]


@over()
async def test_messages_in_a_burst_are_all_read_in_order(stage: Stage) -> None:
    stage.models.respond(lambda request: Say("Noted."))
    async with stage.conversation() as ann:
        for number in range(12):
            await ann.say(f"message {number:02}.")
    last = "\n".join(read_by_model(stage.models.requests[-1]))
    assert re.findall(r"message (\d\d)", last) == [f"{number:02}" for number in range(12)]


@over()
async def test_formatting_arrives(stage: Stage) -> None:
    stage.models.script(Say("Good **morning** to you."))
    async with stage.conversation() as ann:
        await ann.say("hi")
    assert lines(ann) == ["Good morning to you."]
    [words] = ann.screen()
    assert isinstance(words, Words)
    assert stage.home.bold("morning") in words.form


@over()
async def test_a_message_of_100_kb_is_read_whole(stage: Stage) -> None:
    stage.models.script(Say("That was long."))
    text = " ".join(f"word{number:06}" for number in range(9_100))
    async with stage.conversation() as ann:
        await ann.say(text)
    assert len(text) > 100_000
    assert read_by_model(stage.models.requests[0]) == [text]
    assert lines(ann) == ["That was long."]


@over("redelivery")
async def test_a_message_delivered_twice_is_read_and_answered_once(stage: Stage) -> None:
    stage.models.script([Pause(), Say("Once.")])
    async with stage.conversation() as ann:
        message = await ann.say("hi")
        await stage.models.until_held()
        await ann.again(message)
        await ann.heard()
        stage.models.release()
        await ann.until(lambda: lines(ann) == ["Once."])
        await ann.again(message)
    assert lines(ann) == ["Once."]
    assert read_by_model(stage.models.requests[0]) == ["hi"]
    assert len(stage.models.requests) == 1


@over("malformed")
async def test_what_cannot_be_read_between_good_messages_costs_itself_only(stage: Stage) -> None:
    stage.models.script(Say("First."), Say("Second."))
    async with stage.conversation() as ann:
        await ann.say("one")
        await ann.push_malformed()
        await ann.until(lambda: lines(ann) == ["First."])
        await ann.push_malformed()
        await ann.say("two")
    assert lines(ann) == ["First.", "Second."]
    assert read_by_model(stage.models.requests[1]) == ["one", "two"]


@over("quote")
async def test_a_reply_brings_the_quoted_text_to_the_model(stage: Stage) -> None:
    stage.models.script(Say("The tower is 324 m high."), Say("In Paris."))
    async with stage.conversation() as ann:
        await ann.say("how high is it")
        await ann.until(lambda: lines(ann) == ["The tower is 324 m high."])
        await ann.say("where is that", quoting="324 m")
    assert lines(ann) == ["The tower is 324 m high.", "In Paris."]
    asked = read_by_model(stage.models.requests[1])[-1]
    assert asked == '[In reply to your message: "The tower is 324 m high."]\nwhere is that'


@over("reactions")
async def test_the_state_of_a_message_shows_on_it(stage: Stage) -> None:
    stage.more = '[tools.shell]\non_steer = "finish"\n'
    stage.models.script([Call("shell", {"command": WAIT_FOR_GO})], [Pause(), Say("Done.")])
    async with stage.conversation() as ann:
        first = await ann.say("work")
        await ann.until(lambda: "shell" in ann.status())
        await ann.until(lambda: ann.marks(first) == ["read"])
        second = await ann.say("and then tidy up")
        await ann.until(lambda: ann.marks(second) == ["waiting"])
        (stage.workspace / "go").touch()
        await ann.until(lambda: ann.marks(second) == ["waiting", "read"])
        stage.models.release()
        await ann.until(lambda: ann.marks(second)[-1:] == ["answered"])
        await ann.until(lambda: ann.marks(first)[-1:] == ["answered"])
    assert ann.marks(first) == ["read", "answered"]
    assert ann.marks(second) == ["waiting", "read", "answered"]
    assert lines(ann) == ["Done."]


@over("reactions")
async def test_a_failed_and_a_stopped_task_are_not_marked_as_answered(stage: Stage) -> None:
    stage.models.script(Fail(401), [Pause(), Say("never")])
    async with stage.conversation() as ann:
        failed = await ann.say("work")
        await ann.until(lambda: ann.marks(failed)[-1:] == ["failed"])
        stopped = await ann.say("and now?")
        await stage.models.until_held()
        await ann.say("/stop")
        await ann.until(lambda: ann.marks(stopped)[-1:] == ["stopped"])
    assert "answered" not in ann.marks(failed) + ann.marks(stopped)


@over("reactions", "options")
async def test_without_reactions_no_state_shows_on_messages(stage: Stage) -> None:
    stage.home.options = "reactions = false\n"
    stage.models.script([Pause(), Say("never")], Say("Done."))
    async with stage.conversation() as ann:
        message = await ann.say("work")
        await stage.models.until_held()
        other = await ann.say("and then tidy up")
    assert ann.marks(message) == []
    assert ann.marks(other) == []

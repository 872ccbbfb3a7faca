"""Steering: messages, edits and deletes while something runs."""

from __future__ import annotations

from tests.channels.contract.home import (
    INTERRUPTED,
    Stage,
    lines,
    whole,
)
from tests.channels.contract.rows import (
    WAIT_FOR_GO,
    over,
    over_streams,
    read_by_model,
    shows,
    worker,
)
from tests.servers.models import Call, Pause, Say


@over_streams()
async def test_a_message_while_the_model_streams_steers_it(stage: Stage) -> None:
    stage.models.script([Say(["One two", Pause(), " three"])], Say("Five ten."))
    async with stage.conversation() as ann:
        await ann.say("count")
        await ann.until(lambda: lines(ann) == ["One two"])
        await ann.say("in fives please")
    assert lines(ann) == ["One two", INTERRUPTED, "Five ten."]
    first, second = stage.models.requests
    assert first.disconnected
    assert [message.text for message in second.messages if message.role == "assistant"] == ["One two"]
    assert read_by_model(second)[-1].endswith("in fives please")


@over()
async def test_a_message_while_nothing_is_said_yet_leaves_no_trace_of_the_first_try(stage: Stage) -> None:
    stage.models.script([Pause(), Say("never")], Say("Five ten."))
    async with stage.conversation() as ann:
        await ann.say("count")
        await stage.models.until_held()
        await ann.say("in fives please")
    assert lines(ann) == ["Five ten."]
    assert len(stage.models.requests) == 2


@over()
async def test_a_message_cancels_a_reading_tool_at_once(stage: Stage) -> None:
    points = [float(number % 97) for number in range(2000)]
    chart = {"kind": "scatter", "title": "Dots", "series": [{"name": "dots", "x": points, "values": points}]}
    stage.models.script([Say("I draw."), Call("draw_chart", chart)], Say("No chart then."))
    async with stage.conversation() as ann:
        await ann.say("draw")
        drawing = await worker("agent.tools.chart_worker")
        drawing.suspend()
        await ann.until(lambda: "draw_chart" in ann.status())
        await ann.say("do not draw")
    assert lines(ann) == ["I draw.", "No chart then."]
    [result] = stage.models.requests[1].results.values()
    assert result.startswith("Cancelled:")
    assert not drawing.is_running()


@over()
async def test_a_message_lets_a_shell_call_finish_and_skips_the_rest(stage: Stage) -> None:
    stage.models.script(
        [
            Call("shell", {"command": WAIT_FOR_GO}),
            Call("write_file", {"path": "more.txt", "content": "more"}),
        ],
        Say("The first is done, the second is not."),
    )
    async with stage.conversation() as ann:
        await ann.say("work")
        await ann.until(lambda: "shell" in ann.status())
        await ann.say("no second one")
        await ann.heard()
        (stage.workspace / "go").touch()
    assert lines(ann) == ["The first is done, the second is not."]
    first, second = stage.models.requests[1].results.values()
    assert first.startswith("all done")
    assert second.startswith("Skipped:")
    assert not (stage.workspace / "more.txt").exists()
    assert read_by_model(stage.models.requests[1])[-1] == "no second one"


@over("edit")
async def test_an_edit_of_a_waiting_message_changes_it(stage: Stage) -> None:
    stage.models.script([Call("shell", {"command": WAIT_FOR_GO})], Say("Tea it is."))
    async with stage.conversation() as ann:
        await ann.say("work")
        await ann.until(lambda: "shell" in ann.status())
        waiting = await ann.say("then make coffee")
        await ann.edit(waiting, "then make tea")
        await ann.heard()
        (stage.workspace / "go").touch()
    assert lines(ann) == ["Tea it is."]
    assert read_by_model(stage.models.requests[1]) == ["work", "then make tea"]


@over("edit")
async def test_an_edit_of_the_message_being_worked_on_steers(stage: Stage) -> None:
    stage.models.script([Say(["Brewing coffee", Pause()])], Say("Tea it is."))
    async with stage.conversation() as ann:
        message = await ann.say("make coffee")
        await ann.until(lambda: lines(ann) == ["Brewing coffee"])
        await ann.edit(message, "make tea")
    assert lines(ann) == ["Brewing coffee", INTERRUPTED, "Tea it is."]
    assert read_by_model(stage.models.requests[1])[-1].endswith(
        '[They edited an earlier message. Before: "make coffee"]\nmake tea'
    )


@over("edit")
async def test_an_edit_that_changes_no_words_changes_nothing(stage: Stage) -> None:
    stage.models.script([Say(["Brewing", Pause(), " coffee"])])
    async with stage.conversation() as ann:
        message = await ann.say("make coffee")
        await ann.until(lambda: lines(ann) == ["Brewing"])
        await ann.edit(message, None)
        await ann.edit(message, "make coffee")
        await ann.heard()
        stage.models.release()
    assert lines(ann) == ["Brewing coffee"]
    assert len(stage.models.requests) == 1


# --- deletes ---------------------------------------------------------------------------------------------------------


@over("delete")
async def test_a_waiting_message_that_is_deleted_is_never_read(stage: Stage) -> None:
    stage.models.script([Call("shell", {"command": WAIT_FOR_GO})], Say("Done."))
    async with stage.conversation() as ann:
        await ann.say("work")
        await ann.until(lambda: "shell" in ann.status())
        waiting = await ann.say("then make coffee")
        await ann.heard()
        await ann.delete(waiting)
        # What is said after it is kept after it.
        await ann.say("hurry")
        await ann.heard()
        (stage.workspace / "go").touch()
    assert lines(ann) == ["Done."]
    assert read_by_model(stage.models.requests[1]) == ["work", "hurry"]


@over_streams("delete")
async def test_deleting_the_message_being_worked_on_stops_the_turn(stage: Stage) -> None:
    stage.models.script([Say(["Brewing\n\n", Pause(), "coffee"])], Say("Tea it is."))
    async with stage.conversation() as ann:
        message = await ann.say("make coffee")
        await ann.until(lambda: "Brewing" in lines(ann))
        await ann.delete(message)
        await ann.until(lambda: "⏹" in whole(ann))
        await ann.say("make tea")
        await ann.until(lambda: shows(ann, "Tea it is."))
    assert lines(ann)[:2] == ["Brewing", INTERRUPTED]
    assert lines(ann)[2].startswith("⏹ Stopped")
    assert lines(ann)[3:] == ["Tea it is."]
    assert stage.models.requests[0].disconnected


@over("delete")
async def test_deleting_an_answered_message_changes_nothing(stage: Stage) -> None:
    stage.models.script(Say("Hello."), Say("And again."))
    async with stage.conversation() as ann:
        message = await ann.say("hi")
        await ann.until(lambda: lines(ann) == ["Hello."])
        await ann.delete(message)
        await ann.say("and?")
    assert lines(ann) == ["Hello.", "And again."]


# --- busy ------------------------------------------------------------------------------------------------------------


@over("options")
async def test_with_busy_set_to_queue_messages_wait_and_are_answered_one_by_one(stage: Stage) -> None:
    stage.home.options = 'busy = "queue"\n'
    stage.models.script([Say(["One two", Pause(), " three."])], Say("Second."), Say("Third."))
    async with stage.conversation() as ann:
        await ann.say("count")
        await stage.models.until_held()
        await ann.say("next")
        await ann.say("and next")
        await ann.heard()
        stage.models.release()
    assert lines(ann) == ["One two three.", "Second.", "Third."]
    assert read_by_model(stage.models.requests[1]) == ["count", "next"]
    assert read_by_model(stage.models.requests[2]) == ["count", "next", "and next"]
    assert not stage.models.requests[0].disconnected


@over()
async def test_busy_queue_is_chosen_for_a_conversation(stage: Stage) -> None:
    stage.models.script([Pause(), Say("First.")], Say("Second."))
    async with stage.conversation() as ann:
        await ann.say("/busy queue")
        await ann.until(lambda: "waits until that task ends" in whole(ann))
        await ann.say("work")
        await stage.models.until_held()
        await ann.say("more work")
        await ann.heard()
        stage.models.release()
    assert lines(ann)[-2:] == ["First.", "Second."]
    assert read_by_model(stage.models.requests[1]) == ["work", "more work"]


@over()
async def test_one_message_is_queued_by_a_command_before_it(stage: Stage) -> None:
    stage.models.script([Say(["One", Pause(), " two."])], Say("Second."))
    async with stage.conversation() as ann:
        await ann.say("work")
        await ann.until(lambda: lines(ann) == ["One"])
        await ann.say("/queue more work")
        await ann.heard()
        stage.models.release()
    assert lines(ann) == ["One two.", "Second."]
    assert read_by_model(stage.models.requests[1]) == ["work", "more work"]


@over("options")
async def test_with_busy_set_to_interrupt_a_message_replaces_what_runs(stage: Stage) -> None:
    stage.home.options = 'busy = "interrupt"\n'
    stage.models.script([Say(["One two\n\n", Pause(), " three."])], Say("Tea it is."))
    async with stage.conversation() as ann:
        await ann.say("count")
        await ann.until(lambda: "One two" in lines(ann))
        await ann.say("make tea instead")
        await ann.until(lambda: shows(ann, "Tea it is."))
    assert lines(ann)[:2] == ["One two", INTERRUPTED]
    assert lines(ann)[-1] == "Tea it is."
    assert stage.models.requests[0].disconnected

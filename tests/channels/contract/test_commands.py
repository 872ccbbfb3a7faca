"""Commands and buttons: what people say to the gateway rather than to the agent."""

from __future__ import annotations

import psutil

from tests.channels.contract.home import (
    INTERRUPTED,
    Stage,
    lines,
    whole,
)
from tests.channels.contract.rows import (
    over,
    over_streams,
    read_by_model,
    shows,
)
from tests.servers.models import Call, Fail, Pause, Say

STOPPED = "⏹ Stopped."


@over()
async def test_help_names_the_commands_without_asking_the_model(stage: Stage) -> None:
    async with stage.conversation() as ann:
        await ann.say("/help")
    for command in ("stop", "new", "status", "queue", "busy", "help"):
        assert whole(ann).count(f"{stage.home.sign}{command}:") == 1
    assert stage.models.requests == []


@over()
async def test_an_unknown_command_is_named_and_not_fed_to_the_model(stage: Stage) -> None:
    async with stage.conversation() as ann:
        await ann.say("/dance")
    assert lines(ann)[0] == f"There is no command {stage.home.sign}dance."
    assert stage.models.requests == []


@over("reactions")
async def test_an_unknown_command_is_sent_as_text_with_a_button(stage: Stage) -> None:
    stage.models.script(Say("A path, I see."))
    async with stage.conversation() as ann:
        await ann.say("/dance with me")
        await ann.press("Send it as text")
        await ann.until(lambda: lines(ann)[-1] == "A path, I see.")
        await ann.press("Send it as text")
        await ann.until(lambda: "sent already" in whole(ann))
    assert read_by_model(stage.models.requests[0])[-1] == "/dance with me"
    assert len(stage.models.requests) == 1


@over("reactions")
async def test_a_failed_task_is_run_again_with_its_button(stage: Stage) -> None:
    stage.models.script(Fail(400), Say("Done."))
    async with stage.conversation() as ann:
        await ann.say("tidy up")
        await ann.press("Try again")
        await ann.until(lambda: lines(ann)[-1] == "Done.")
        await ann.press("Try again")
        await ann.until(lambda: "not the last one any more" in whole(ann))
    assert read_by_model(stage.models.requests[-1]) == ["tidy up"]


@over()
async def test_status_answers_while_a_turn_runs(stage: Stage) -> None:
    stage.models.script([Pause(), Say("Done.")])
    async with stage.conversation() as ann:
        await ann.say("work")
        await stage.models.until_held()
        await ann.say("/status")
        await ann.until(lambda: "Running task: the model is answering, step 1" in whole(ann))
        stage.models.release()
    assert whole(ann).count("Running task:") == 1
    assert lines(ann)[-1] == "Done."
    assert len(stage.models.requests) == 1


@over()
async def test_new_begins_a_conversation_without_a_past(stage: Stage) -> None:
    stage.models.script(Say("Blue it is."), Say("I do not know."))
    async with stage.conversation() as ann:
        await ann.say("my colour is blue")
        await ann.until(lambda: "Blue it is." in lines(ann))
        await ann.say("/new")
        await ann.until(lambda: "A new conversation starts here." in lines(ann))
        await ann.say("which is my colour?")
    assert lines(ann)[-2:] == ["A new conversation starts here.", "I do not know."]
    assert read_by_model(stage.models.requests[1]) == ["which is my colour?"]


@over_streams()
async def test_stop_ends_the_answer_and_keeps_what_was_said(stage: Stage) -> None:
    stage.models.script([Say(["One two", Pause(), " three"])], Say("Yes."))
    async with stage.conversation() as ann:
        await ann.say("count")
        await ann.until(lambda: lines(ann) == ["One two"])
        await ann.say("/stop")
        await ann.until(lambda: "Stopped: the model is answering" in whole(ann))
        await ann.say("are you there?")
    assert lines(ann)[:3] == ["One two", INTERRUPTED, STOPPED]
    assert lines(ann)[3].startswith("Stopped: the model is answering, step 1")
    assert lines(ann)[4:] == ["Yes."]
    first, second = stage.models.requests
    assert first.disconnected
    assert "/stop" not in "\n".join(read_by_model(second))


@over_streams()
async def test_the_stop_button_ends_a_running_tool(stage: Stage) -> None:
    stage.models.script([Say("I begin."), Call("shell", {"command": "touch begun; sleep 60"})])
    async with stage.conversation() as ann:
        await ann.say("work")
        await ann.until(lambda: "I begin." in lines(ann) and "shell" in ann.status())
        await ann.press_stop()
        await ann.until(lambda: "Stopped: shell" in whole(ann))
    assert lines(ann)[:2] == ["I begin.", STOPPED]
    assert lines(ann)[2].startswith("Stopped: shell, step 1")
    assert len(lines(ann)) == 3
    assert not [child for child in psutil.Process().children(recursive=True) if "sleep" in child.name()]


@over()
async def test_stop_with_nothing_to_stop_says_so(stage: Stage) -> None:
    async with stage.conversation() as ann:
        await ann.say("/stop")
    assert lines(ann) == ["No task is running."]


@over("group")
async def test_a_command_in_a_group_is_answered_there(stage: Stage) -> None:
    stage.models.script([Say(["One two\n\n", Pause(), " three"])])
    group = stage.home.group()
    async with stage.conversation(group):
        await group.say(f"{stage.home.mention} count")
        await group.until(lambda: "One two" in lines(group))
        await group.say("/stop")
        await group.until(lambda: "Stopped: the model is answering" in whole(group))
    assert lines(group)[:2] == ["One two", INTERRUPTED]
    assert lines(stage.home.main) == []


# --- questions -------------------------------------------------------------------------------------------------------

WHICH = Call("ask_user", {"question": "Which **colour**?", "options": ["red", "blue"]})


@over_streams()
async def test_a_question_is_answered_with_its_button(stage: Stage) -> None:
    stage.models.script([Say("One thing."), WHICH], Say("Blue it is."))
    async with stage.conversation() as ann:
        await ann.say("paint it")
        await ann.press("blue")
        await ann.until(lambda: shows(ann, "Blue it is."))
    assert [line for line in lines(ann) if line in ("One thing.", "Which colour?", "Blue it is.")] == [
        "One thing.",
        "Which colour?",
        "Blue it is.",
    ]
    assert read_by_model(stage.models.requests[1]) == ["paint it", "blue"]
    assert len(stage.models.requests) == 2


@over()
async def test_a_question_is_answered_with_words(stage: Stage) -> None:
    stage.models.script(WHICH, Say("Green it is."))
    async with stage.conversation() as ann:
        await ann.say("paint it")
        await ann.until(lambda: "Which colour?" in whole(ann))
        await ann.say("green")
        await ann.until(lambda: shows(ann, "Green it is."))
    assert whole(ann).count("Which colour?") == 1
    assert lines(ann)[-1] == "Green it is."
    assert read_by_model(stage.models.requests[1]) == ["paint it", "green"]


@over()
async def test_a_question_from_before_a_restart_is_answered_with_words(stage: Stage) -> None:
    stage.models.script(WHICH, Say("Green it is."))
    ann = stage.home.main
    async with stage.gateway():
        await ann.say("paint it")
        await ann.until(lambda: "Which colour?" in whole(ann))
    async with stage.conversation():
        await ann.say("green")
        await ann.until(lambda: shows(ann, "Green it is."))
    assert lines(ann)[-1] == "Green it is."
    assert read_by_model(stage.models.requests[1]) == ["paint it", "green"]


@over("screen")
async def test_the_buttons_of_a_question_outlive_a_restart(stage: Stage) -> None:
    stage.models.script(WHICH, Say("Red it is."))
    ann = stage.home.main
    async with stage.gateway():
        await ann.say("paint it")
        await ann.until(lambda: "Which colour?" in whole(ann))
    async with stage.conversation():
        await ann.press("red")
        await ann.until(lambda: shows(ann, "Red it is."))
    assert whole(ann).count("Which colour?") == 1
    assert lines(ann)[-1] == "Red it is."
    assert read_by_model(stage.models.requests[1]) == ["paint it", "red"]


@over("group")
async def test_a_question_in_a_group_is_asked_there_and_answered_by_anybody(stage: Stage) -> None:
    stage.models.script(WHICH, Say("Blue it is."))
    group = stage.home.group()
    async with stage.conversation(group):
        await group.say(f"{stage.home.mention} paint it")
        await group.press("blue")
        await group.until(lambda: shows(group, "Blue it is."))
    assert whole(group).count("Which colour?") == 1
    assert lines(stage.home.main) == []
    assert read_by_model(stage.models.requests[1]) == ["Ann: paint it", "Ann: blue"]


@over()
async def test_stop_ends_a_question(stage: Stage) -> None:
    stage.models.script(WHICH, Say("Hello."))
    async with stage.conversation() as ann:
        await ann.say("paint it")
        await ann.until(lambda: "Which colour?" in whole(ann))
        await ann.say("/stop")
        await ann.until(lambda: "Stopped: waiting for your answer." in whole(ann))
        await ann.say("hi")
    assert whole(ann).count("Which colour?") == 1
    assert lines(ann)[-1] == "Hello."

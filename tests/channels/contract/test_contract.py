"""One contract for all channels: nothing lost, nothing doubled, in the right place, in the right order.

A row says what it needs; a home that has not got it says so (`Home.has`) and skips the row.
"""

from __future__ import annotations

import asyncio
import re
from functools import partial
from io import BytesIO
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tests.channels.contract.home import (
    INTERRUPTED,
    PICTURE,
    Feature,
    File,
    Place,
    Stage,
    Upload,
    Words,
    code,
    lines,
    pictures,
    whole,
)
from tests.channels.contract.telegram_home import TelegramHome
from tests.channels.contract.terminal_home import TerminalHome
from tests.channels.contract.web_home import WebHome
from tests.servers.models import Call, Drop, Fail, Pause, Request, Say

HOMES = (TelegramHome, WebHome, TerminalHome)
POSSIBLY_A_REPEAT = "(possibly a repeat: the connection broke while this was being sent)"
STOPPED = "⏹ Stopped."


def over(*needs: Feature) -> pytest.MarkDecorator:
    """Over every home, skipped where a home has not got what the row needs."""

    def marks(home: type[TelegramHome | WebHome | TerminalHome]) -> tuple[pytest.MarkDecorator, ...]:
        lacking = ", ".join(sorted(set(needs) - home.has))
        return (pytest.mark.skip(reason=f"{home.name} has no {lacking}"),) if lacking else ()

    params = [pytest.param(home.name, id=home.name, marks=marks(home)) for home in HOMES]
    return pytest.mark.parametrize("stage", params, indirect=True)


def telegram(stage: Stage) -> TelegramHome:
    """For rows whose fault or place only a platform's server can make."""
    assert isinstance(stage.home, TelegramHome)
    return stage.home


def web(stage: Stage) -> WebHome:
    assert isinstance(stage.home, WebHome)
    return stage.home


def heard_by_model(request: Request) -> list[str]:
    return [message.text for message in request.messages if message.role == "user"]


def shows(place: Place, line: str) -> bool:
    return line in lines(place)


def png(color: str = "#4255c8") -> bytes:
    kept = BytesIO()
    Image.new("RGB", (64, 48), color).save(kept, "PNG")
    return kept.getvalue()


# --- talking ---------------------------------------------------------------------------------------------------------


@over()
async def test_a_direct_message_is_answered_once(stage: Stage) -> None:
    stage.models.script(Say("Good morning."))
    async with stage.conversation() as ann:
        await ann.say("hi")
    assert lines(ann) == ["Good morning."]
    assert heard_by_model(stage.models.requests[0]) == ["hi"]
    assert len(stage.models.requests) == 1


@over()
async def test_each_question_has_its_answer_in_order(stage: Stage) -> None:
    async with stage.conversation() as ann:
        for number in range(4):
            await ann.say(f"question {number}")
            await ann.until(partial(shows, ann, f"You said: question {number}"))
    assert lines(ann) == [f"You said: question {number}" for number in range(4)]
    assert heard_by_model(stage.models.requests[-1]) == [f"question {number}" for number in range(4)]


@over()
async def test_messages_in_a_burst_are_all_read_in_order(stage: Stage) -> None:
    stage.models.respond(lambda request: Say("Noted."))
    async with stage.conversation() as ann:
        for number in range(12):
            await ann.say(f"message {number:02}.")
    last = "\n".join(heard_by_model(stage.models.requests[-1]))
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
    assert heard_by_model(stage.models.requests[0]) == [text]
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
    assert heard_by_model(stage.models.requests[0]) == ["hi"]
    assert len(stage.models.requests) == 1


@over("quote")
async def test_a_reply_brings_the_quoted_text_to_the_model(stage: Stage) -> None:
    stage.models.script(Say("The tower is 324 m high."), Say("In Paris."))
    async with stage.conversation() as ann:
        await ann.say("how high is it")
        await ann.until(lambda: lines(ann) == ["The tower is 324 m high."])
        await ann.say("where is that", quoting="324 m")
    assert lines(ann) == ["The tower is 324 m high.", "In Paris."]
    asked = heard_by_model(stage.models.requests[1])[-1]
    assert asked == '[In reply to your message: "The tower is 324 m high."]\nwhere is that'


# --- places ----------------------------------------------------------------------------------------------------------


@over("group")
async def test_in_a_group_a_mention_is_answered_and_other_talk_is_ignored(stage: Stage) -> None:
    stage.models.script(Say("Twelve."))
    group = telegram(stage).group()
    async with stage.conversation(group):
        await group.say("nice weather today")
        asked = await group.say("@interject_test_bot, how many are we?")
        await group.say("twelve I think")
    [words] = group.screen()
    assert isinstance(words, Words)
    assert (words.plain, words.answers) == ("Twelve.", asked)
    assert lines(stage.home.main) == []
    [request] = stage.models.requests
    assert heard_by_model(request) == ["how many are we?"]


@over("group")
async def test_in_a_group_the_model_knows_who_interjects(stage: Stage) -> None:
    stage.models.script([Say(["One two", Pause(), " three"])], Say("For Bob: in fives."))
    group = telegram(stage).group()
    async with stage.conversation(group):
        await group.say("@interject_test_bot count")
        await group.until(lambda: "One two" in lines(group))
        await group.say("@interject_test_bot in fives", by="Bob")
    assert lines(group) == ["One two", INTERRUPTED, "For Bob: in fives."]
    heard = "\n".join(heard_by_model(stage.models.requests[1]))
    assert "Ann: count" in heard
    assert "Bob: in fives" in heard


@over("rooms")
async def test_a_room_keeps_its_place_and_is_a_conversation_of_its_own(stage: Stage) -> None:
    red, blue = stage.home.room("red"), stage.home.room("blue")
    mention = "@interject_test_bot " if stage.home.name == "telegram" else ""
    stage.models.respond(lambda request: [Say(["Of ", Pause(), heard_by_model(request)[-1]])])
    async with stage.conversation(red, blue) as ann:
        await red.say(f"{mention}red things")
        await blue.say(f"{mention}blue things")
        await ann.say("my things")
        # All three are being answered at the same time.
        await stage.models.until(lambda: sum(request.held for request in stage.models.requests) == 3)
        stage.models.release(3)
        await red.until(lambda: lines(red) == ["Of red things"])
        await red.say(f"{mention}more red things")
        stage.models.release()
    assert lines(red) == ["Of red things", "Of more red things"]
    assert lines(blue) == ["Of blue things"]
    assert lines(ann) == ["Of my things"]
    asked = sorted(heard_by_model(request) for request in stage.models.requests)
    assert asked == [["blue things"], ["my things"], ["red things"], ["red things", "more red things"]]


@over("rooms")
async def test_what_waits_for_a_slot_is_read_together_once_there_is_one(stage: Stage) -> None:
    stage.agent = "max_running_turns = 1"
    stage.models.script([Pause(), Say("First.")], Say("Both."))
    red = stage.home.room("red")
    mention = "@interject_test_bot " if stage.home.name == "telegram" else ""
    async with stage.conversation(red) as ann:
        await red.say(f"{mention}work")
        await stage.models.until_held()
        await ann.say("one thing")
        await ann.say("another thing")
        await ann.heard()
        stage.models.release()
    assert lines(red) == ["First."]
    assert lines(ann) == ["Both."]
    assert heard_by_model(stage.models.requests[1]) == ["one thing\n\nanother thing"]


@over("history")
async def test_after_a_reload_a_reply_stands_behind_the_messages_that_it_began_with(stage: Stage) -> None:
    stage.agent = "max_running_turns = 1"
    stage.models.script([Pause(), Say("First.")], Say("Both."))
    main, red = web(stage).main, stage.home.room("red")
    async with stage.conversation(red) as ann:
        await red.say("work")
        await stage.models.until_held()
        await ann.say("one thing")
        await ann.say("another thing")
        stage.models.release()
        await ann.until(partial(shows, ann, "Both."))
        reloaded = await main.reload()
    assert [item.get("text", "a reply") for item in reloaded] == ["one thing", "another thing", "a reply"]


# --- commands --------------------------------------------------------------------------------------------------------


@over()
async def test_help_names_the_commands_without_asking_the_model(stage: Stage) -> None:
    async with stage.conversation() as ann:
        await ann.say("/help")
    for command in ("/stop", "/new", "/status", "/help"):
        assert whole(ann).count(f"{command}:") == 1
    assert stage.models.requests == []


@over()
async def test_an_unknown_command_is_named_and_not_fed_to_the_model(stage: Stage) -> None:
    async with stage.conversation() as ann:
        await ann.say("/dance")
    assert lines(ann)[0] == "There is no command /dance."
    assert stage.models.requests == []


@over()
async def test_status_answers_while_a_turn_runs(stage: Stage) -> None:
    stage.models.script([Pause(), Say("Done.")])
    async with stage.conversation() as ann:
        await ann.say("work")
        await stage.models.until_held()
        await ann.say("/status")
        await ann.until(lambda: "Running: the model is answering, step 1" in whole(ann))
        stage.models.release()
    assert whole(ann).count("Running:") == 1
    assert lines(ann)[-1] == "Done."
    assert len(stage.models.requests) == 1


@over()
async def test_new_begins_a_conversation_without_a_past(stage: Stage) -> None:
    stage.models.script(Say("Blue it is."), Say("I do not know."))
    async with stage.conversation() as ann:
        await ann.say("my colour is blue")
        await ann.until(lambda: "Blue it is." in lines(ann))
        await ann.say("/new")
        await ann.until(lambda: "A new conversation begins here." in lines(ann))
        await ann.say("which is my colour?")
    assert lines(ann)[-2:] == ["A new conversation begins here.", "I do not know."]
    assert heard_by_model(stage.models.requests[1]) == ["which is my colour?"]


@over()
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
    assert "/stop" not in "\n".join(heard_by_model(second))


@over()
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
    assert lines(ann) == ["Nothing is running, so there was nothing to stop."]


# --- steering --------------------------------------------------------------------------------------------------------


@over()
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
    assert heard_by_model(second)[-1].endswith("in fives please")


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
        drawing = await worker("agent.tools.draw")
        drawing.suspend()
        await ann.until(lambda: "draw_chart" in ann.status())
        await ann.say("do not draw")
    assert lines(ann) == ["I draw.", "No chart then."]
    [result] = stage.models.requests[1].results.values()
    assert result.startswith("Cancelled:")
    assert not drawing.is_running()


async def written(file: Path) -> None:
    """Returns once a tool has written something there."""
    async with asyncio.timeout(60):
        while not (file.exists() and file.stat().st_size):  # noqa: ASYNC110, ASYNC240 - a file rings no bell
            await asyncio.sleep(0.005)


async def worker(module: str) -> psutil.Process:
    """The tool's worker process, once it is there."""
    async with asyncio.timeout(60):
        while True:
            for child in psutil.Process().children(recursive=True):
                if module in child.cmdline():
                    return child
            await asyncio.sleep(0.005)


@over()
async def test_a_message_lets_a_shell_call_finish_and_skips_the_rest(stage: Stage) -> None:
    stage.models.script(
        [
            Call("shell", {"command": "until test -e go; do sleep 0.02; done; echo all done"}),
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
    assert heard_by_model(stage.models.requests[1])[-1] == "no second one"


@over("edit")
async def test_an_edit_of_a_waiting_message_changes_it(stage: Stage) -> None:
    stage.models.script([Call("shell", {"command": "until test -e go; do sleep 0.02; done"})], Say("Tea it is."))
    async with stage.conversation() as ann:
        await ann.say("work")
        await ann.until(lambda: "shell" in ann.status())
        waiting = await ann.say("then make coffee")
        await ann.edit(waiting, "then make tea")
        await ann.heard()
        (stage.workspace / "go").touch()
    assert lines(ann) == ["Tea it is."]
    assert heard_by_model(stage.models.requests[1]) == ["work", "then make tea"]


@over("edit")
async def test_an_edit_of_the_message_being_worked_on_steers(stage: Stage) -> None:
    stage.models.script([Say(["Brewing coffee", Pause()])], Say("Tea it is."))
    async with stage.conversation() as ann:
        message = await ann.say("make coffee")
        await ann.until(lambda: lines(ann) == ["Brewing coffee"])
        await ann.edit(message, "make tea")
    assert lines(ann) == ["Brewing coffee", INTERRUPTED, "Tea it is."]
    assert heard_by_model(stage.models.requests[1])[-1].endswith(
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


# --- files in --------------------------------------------------------------------------------------------------------


@over("files")
async def test_the_model_is_shown_a_photo(stage: Stage) -> None:
    stage.models.script(Say("A blue one."))
    async with stage.conversation() as ann:
        await ann.send(Upload("photo.png", png(), "photo"), text="what is this?")
    [message] = [message for message in stage.models.requests[0].messages if message.role == "user"]
    assert message.images == (png(),)
    assert message.text.startswith("what is this?")
    assert lines(ann) == ["A blue one."]


@over("files")
async def test_the_model_is_told_of_a_document(stage: Stage) -> None:
    stage.models.script(Say("I see."))
    async with stage.conversation() as ann:
        await ann.send(Upload("plan.pdf", b"%PDF-1.4 nothing"), text="read this")
    [text] = heard_by_model(stage.models.requests[0])
    assert text.startswith("read this")
    assert "[Attached file: plan.pdf, application/pdf, 16 bytes, in the workspace as received/" in text
    assert lines(ann) == ["I see."]


@over("files")
async def test_the_model_is_told_of_a_voice_note(stage: Stage) -> None:
    stage.models.script(Say("I cannot hear."))
    async with stage.conversation() as ann:
        await ann.send(Upload("voice.ogg", b"OggS" + bytes(60), "voice"))
    [text] = heard_by_model(stage.models.requests[0])
    assert re.fullmatch(
        r"\[Attached file: voice\S*\.ogg, audio/ogg, 64 bytes, in the workspace as received/\S+\.ogg\]", text
    )
    assert lines(ann) == ["I cannot hear."]


@over("files")
async def test_an_empty_file_is_a_file(stage: Stage) -> None:
    stage.models.script(Say("It is empty."))
    async with stage.conversation() as ann:
        await ann.send(Upload("nothing.txt", b""), text="read this")
    [text] = heard_by_model(stage.models.requests[0])
    assert text.startswith("read this")
    assert "nothing.txt" in text
    assert "0 bytes" in text
    assert lines(ann) == ["It is empty."]


@over("album")
async def test_an_album_is_one_message(stage: Stage) -> None:
    stage.models.script(Say("Two colours."))
    async with stage.conversation() as ann:
        photos = Upload("a.png", png("#ff0000"), "photo"), Upload("b.png", png("#00ff00"), "photo")
        await ann.send(*photos, text="compare")
    [request] = stage.models.requests
    [message] = [message for message in request.messages if message.role == "user"]
    assert message.images == (png("#ff0000"), png("#00ff00"))
    assert message.text.count("compare") == 1
    assert lines(ann) == ["Two colours."]


@over("lost file")
async def test_a_file_that_cannot_be_had_is_named_to_the_model(stage: Stage) -> None:
    stage.models.script(Say("I did not get it."))
    home = telegram(stage)
    async with stage.conversation() as ann:
        home.api.fail_next("file", 404)
        await ann.send(Upload("plan.pdf", b"%PDF-1.4 nothing"), text="read this")
    [text] = heard_by_model(stage.models.requests[0])
    assert "The file plan.pdf could not be had" in text
    assert text.endswith("read this")
    assert lines(ann) == ["I did not get it."]
    assert [refusal.method for refusal in home.api.refusals] == ["file"]
    home.api.refusals.clear()


# --- replies ---------------------------------------------------------------------------------------------------------


@over()
async def test_a_reply_is_shown_while_it_grows(stage: Stage) -> None:
    stage.models.script([Say(["One", Pause(), " two", Pause(), " three."])])
    async with stage.conversation() as ann:
        await ann.say("count")
        for text in ("One", "One two"):
            await ann.until(partial(shows, ann, text))
            stage.models.release()
    assert lines(ann) == ["One two three."]
    assert len(ann.screen()) == 1


@over()
async def test_a_long_reply_arrives_complete_and_in_order(stage: Stage) -> None:
    words = [f"w{number:04}" for number in range(2400)]
    paragraphs = [" ".join(words[start : start + 80]) for start in range(0, 2400, 80)]
    stage.models.script(Say("\n\n".join(paragraphs), pieces=40))
    async with stage.conversation() as ann:
        await ann.say("tell me all")
    assert len("\n\n".join(paragraphs)) > 12_000
    assert re.findall(r"w\d{4}", whole(ann)) == words


@over()
async def test_a_code_block_that_is_split_stays_code(stage: Stage) -> None:
    block = [f"value{number:03} = compute({number}) or None" for number in range(300)]
    stage.models.script(Say("Look:\n\n```python\n" + "\n".join(block) + "\n```\n\nThat was it.", pieces=20))
    async with stage.conversation() as ann:
        await ann.say("show me")
    assert code(ann) == block
    assert [line for line in lines(ann) if "value" not in line] == ["Look:", "That was it."]


@over()
async def test_a_table_arrives_cell_by_cell(stage: Stage) -> None:
    stage.models.script(Say("Prices:\n\n| Fruit | Price |\n|---|---|\n| apple | 11 |\n| pear | 22 |\n\nThat is all."))
    async with stage.conversation() as ann:
        await ann.say("prices")
    cells = ["Prices", "Fruit", "Price", "apple", "11", "pear", "22", "That", "is", "all"]
    assert re.findall(r"\w+", whole(ann)) == cells


@over()
async def test_a_picture_stands_between_the_paragraphs_where_it_was_made(stage: Stage) -> None:
    chart = {"kind": "bar", "title": "Fruit", "labels": ["a", "b"], "series": [{"name": "n", "values": [1, 2]}]}
    stage.models.script([Say("Here it comes."), Call("draw_chart", chart)], Say("There it is."))
    async with stage.conversation() as ann:
        await ann.say("draw")
    assert lines(ann) == ["Here it comes.", PICTURE, "There it is."]
    [picture] = pictures(ann)
    assert Image.open(BytesIO(picture)).size == (1600, 960)


@over()
async def test_a_sent_file_arrives_with_its_caption(stage: Stage) -> None:
    stage.models.script(
        Call("write_file", {"path": "notes.csv", "content": "a,b\n1,2\n"}),
        Call("send_file", {"path": "notes.csv", "caption": "The notes"}),
        Say("Sent."),
    )
    async with stage.conversation() as ann:
        await ann.say("send me the notes")
    assert lines(ann) == ["[file notes.csv]", "The notes", "Sent."]
    assert [seen.data for seen in ann.screen() if isinstance(seen, File)] == [b"a,b\n1,2\n"]


@over("faults")
async def test_a_picture_that_the_platform_refuses_arrives_as_a_file(stage: Stage) -> None:
    (stage.workspace).mkdir()
    (stage.workspace / "blue.png").write_bytes(png())
    stage.models.script(Call("send_file", {"path": "blue.png", "caption": "Blue"}), Say("Sent."))
    home = telegram(stage)
    async with stage.conversation() as ann:
        home.api.fail_next("sendPhoto", 400)
        await ann.say("send me the picture")
    assert lines(ann) == ["[file blue.png]", "Blue", "Sent."]
    assert [refusal.method for refusal in home.api.refusals] == ["sendPhoto"]
    home.api.refusals.clear()


# --- trouble ---------------------------------------------------------------------------------------------------------


@over()
async def test_a_model_failure_is_told_once_and_the_next_message_works(stage: Stage) -> None:
    stage.models.script(Fail(401), Say("Here again."))
    async with stage.conversation() as ann:
        await ann.say("hi")
        await ann.until(lambda: "I could not finish this" in whole(ann))
        await ann.say("and now?")
    assert whole(ann).count("⚠️") == 1
    assert lines(ann)[0].startswith("⚠️ I could not finish this: The model's provider did not accept the API key.")
    assert lines(ann)[-1] == "Here again."


@over()
async def test_a_model_failure_in_the_middle_takes_the_shown_text_back_and_tries_again(stage: Stage) -> None:
    stage.models.script([Say(["One two", Pause()]), Drop()], Say("Five ten."))
    async with stage.conversation() as ann:
        await ann.say("count")
        await ann.until(lambda: lines(ann) == ["One two"])
        stage.models.release()
    assert lines(ann) == ["Five ten."]


@over()
async def test_an_empty_answer_is_told_and_the_next_message_works(stage: Stage) -> None:
    stage.models.script([], [], Say("Here again."))
    async with stage.conversation() as ann:
        await ann.say("hi")
        await ann.until(lambda: "The model gave an empty answer" in whole(ann))
        await ann.say("and now?")
    assert whole(ann).count("⚠️") == 1
    assert lines(ann)[-1] == "Here again."


@over("typing")
async def test_typing_shows_while_nothing_else_does(stage: Stage) -> None:
    stage.models.script([Pause(), Say("There.")])
    chat = telegram(stage).main.chat
    async with stage.conversation() as ann:
        await ann.say("think")
        await chat.until(lambda chat: chat.actions)
        assert lines(ann) == []
        stage.models.release()
    assert [action.action for action in chat.actions] == ["typing"]
    assert lines(ann) == ["There."]


@over("faults")
async def test_a_rate_limit_is_waited_out(stage: Stage) -> None:
    stage.models.script(Say("Patience."))
    home = telegram(stage)
    async with stage.conversation() as ann:
        home.api.fail_next("sendMessage", 429, retry_after=1)
        await ann.say("hi")
    assert lines(ann) == ["Patience."]
    [refusal] = home.api.refusals
    first, second = home.api.called("sendMessage")
    assert first.at <= refusal.at
    assert second.at - refusal.at >= 1.0
    home.api.refusals.clear()


@over("faults")
async def test_a_send_whose_answer_was_lost_is_sent_again_with_a_note(stage: Stage) -> None:
    stage.models.script(Say("Hello."), Say("And again."))
    home = telegram(stage)
    async with stage.conversation() as ann:
        home.api.drop_answer("sendMessage")
        await ann.say("hi")
        await ann.until(lambda: POSSIBLY_A_REPEAT in lines(ann))
        await ann.say("and?")
    assert lines(ann) == ["Hello.", "Hello.", POSSIBLY_A_REPEAT, "And again."]


@over("faults")
async def test_an_edit_that_fails_is_made_again(stage: Stage) -> None:
    stage.models.script([Say(["One", Pause(), " two."])])
    home = telegram(stage)
    async with stage.conversation() as ann:
        await ann.say("count")
        await ann.until(lambda: lines(ann) == ["One"])
        home.api.fail_next("editMessageText", 500)
        stage.models.release()
    assert lines(ann) == ["One two."]
    assert [refusal.status for refusal in home.api.refusals] == [500]
    home.api.refusals.clear()


@over("outage")
async def test_after_a_lost_connection_all_is_there_once(stage: Stage) -> None:
    stage.models.script([Say(["One", Pause(), " two."])], Say("Five ten."))
    async with stage.conversation() as ann:
        await ann.say("count")
        await ann.until(lambda: lines(ann) == ["One"])
        async with stage.home.outage():
            stage.models.release()
            await stage.models.requests[0].finished.wait()
        await ann.until(lambda: lines(ann) == ["One two."])
        await ann.say("in fives")
    assert lines(ann) == ["One two.", "Five ten."]


@over("patience")
async def test_what_was_said_while_the_gateway_was_down_is_answered_in_order(stage: Stage) -> None:
    stage.models.respond(lambda request: Say("Noted."))
    async with stage.conversation() as ann:
        await ann.say("message 0")
    for number in range(1, 5):
        await ann.say(f"message {number}")
    async with stage.conversation():
        pass
    heard = "\n".join(heard_by_model(stage.models.requests[-1]))
    assert re.findall(r"message (\d)", heard) == ["0", "1", "2", "3", "4"]
    assert set(lines(ann)) == {"Noted."}


@over()
async def test_a_reply_goes_on_in_its_message_after_a_restart(stage: Stage) -> None:
    stage.models.script([Say(["One two", Pause()])], [Pause(), Say("One two three.")])
    ann = stage.home.main
    async with stage.gateway():
        await ann.say("count")
        await ann.until(lambda: lines(ann) == ["One two"])
        before = ann.screen()
    async with stage.conversation():
        await stage.models.until(2)
        await stage.models.until_held()
        stage.models.release(2)
    assert lines(ann) == ["One two three."]
    assert [seen.message for seen in ann.screen()] == [seen.message for seen in before]
    assert heard_by_model(stage.models.requests[1]) == ["count"]


@over("typing")
async def test_what_was_said_before_a_restart_stands_until_there_is_more(stage: Stage) -> None:
    stage.models.script([Say(["One two", Pause()])], [Pause(), Say("One two three.")])
    ann, chat = stage.home.main, telegram(stage).main.chat
    async with stage.gateway():
        await ann.say("count")
        await ann.until(lambda: lines(ann) == ["One two"])
    async with stage.conversation():
        await chat.until(lambda chat: chat.actions)
        assert lines(ann) == ["One two"]
        stage.models.release(2)
    assert lines(ann) == ["One two three."]
    assert chat.deleted == []


@over()
async def test_a_tool_interrupted_by_a_restart_is_not_run_again(stage: Stage) -> None:
    stage.models.script(
        [Say("I begin."), Call("shell", {"command": "echo x >> runs; sleep 60"})], Say("It may be half done.")
    )
    ann = stage.home.main
    async with stage.gateway():
        await ann.say("work")
        await ann.until(lambda: "I begin." in lines(ann) and "shell" in ann.status())
        await written(stage.workspace / "runs")
    async with stage.conversation():
        pass
    assert lines(ann) == ["I begin.", "It may be half done."]
    assert (stage.workspace / "runs").read_text() == "x\n"
    [result] = stage.models.requests[1].results.values()
    assert result.startswith("unknown: interrupted by a restart")


@over("allow list")
async def test_whoever_is_not_allowed_is_told_once_and_only_in_private(stage: Stage) -> None:
    home = telegram(stage)
    home.allow = [str(7)]
    eve, group = home.stranger(), home.group()
    stage.models.script(Say("Hello Ann."))
    async with stage.conversation(eve, group) as ann:
        await group.say("@interject_test_bot let me in", by="Bob")
        await eve.say("let me in")
        await eve.until(lambda: len(lines(eve)) == 1)
        await eve.say("please")
        await ann.say("hi")
    assert lines(eve) == ["Sorry, I only answer people my operator has allowed. (Your id here is 66.)"]
    assert lines(group) == []
    assert lines(ann) == ["Hello Ann."]
    assert [heard_by_model(request) for request in stage.models.requests] == [["hi"]]

"""Trouble: platforms, connections and gateways that fail, and nothing lost or doubled by it."""

from __future__ import annotations

import re
from functools import partial

import pytest

from tests.channels.contract.home import (
    PICTURE,
    Place,
    Stage,
    lines,
    pictures,
    whole,
)
from tests.channels.contract.rows import (
    POSSIBLY_A_REPEAT,
    over,
    over_streams,
    png,
    read_by_model,
    shows,
    written,
)
from tests.servers.models import Call, Drop, Fail, Pause, Say


@over()
async def test_a_model_failure_is_told_once_and_the_next_message_works(stage: Stage) -> None:
    stage.models.script(Fail(401), Say("Here again."))
    async with stage.conversation() as ann:
        await ann.say("hi")
        await ann.until(lambda: "I could not finish this" in whole(ann))
        await ann.say("and now?")
    assert whole(ann).count("⚠️") == 1
    assert lines(ann)[0].startswith("⚠️ I could not finish this: The model's provider did not accept the API key")
    assert lines(ann)[-1] == "Here again."


@over_streams()
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


# --- platforms that refuse and lose ----------------------------------------------------------------------------------


REFUSALS = pytest.mark.parametrize(("status", "retry_after"), [(429, 1), (500, None)], ids=["429", "500"])


def note(stage: Stage) -> list[str]:
    """What stands under a message that may have been sent before, where the platform does not tell."""
    return [] if "recall" in stage.home.has else [POSSIBLY_A_REPEAT]


@over_streams("faults")
@REFUSALS
async def test_a_text_that_is_refused_for_now_is_sent_again(stage: Stage, status: int, retry_after: int | None) -> None:
    stage.models.script([Say(["Patience.\n\n", Pause(), "Thank you."])])
    async with stage.conversation() as ann:
        stage.home.fail_next("send", status, retry_after=retry_after)
        await ann.say("hi")
        await ann.until(lambda: "Patience." in lines(ann))
        stage.models.release()
    # Of a 429 it is known that nothing was sent.
    assert lines(ann) == ["Patience.", "Thank you.", *(note(stage) if status == 500 else [])]


@over_streams("faults")
@REFUSALS
async def test_a_change_that_is_refused_for_now_is_made_again(
    stage: Stage, status: int, retry_after: int | None
) -> None:
    stage.models.script([Say(["One.\n\n", Pause(), "Two.\n\n", Pause(), "Three."])])
    async with stage.conversation() as ann:
        await ann.say("count")
        await ann.until(lambda: lines(ann) == ["One."])
        stage.home.fail_next("edit", status, retry_after=retry_after)
        stage.models.release()
        await ann.until(lambda: lines(ann) == ["One.", "Two."])
        stage.models.release()
    assert lines(ann) == ["One.", "Two.", "Three."]


@over("faults")
@REFUSALS
async def test_a_picture_that_is_refused_for_now_is_sent_again(
    stage: Stage, status: int, retry_after: int | None
) -> None:
    stage.workspace.mkdir()
    (stage.workspace / "blue.png").write_bytes(png())
    stage.models.script([Say("Here."), Call("send_file", {"path": "blue.png"})], Say("Sent."))
    async with stage.conversation() as ann:
        stage.home.fail_next("upload", status, retry_after=retry_after)
        await ann.say("send me the picture")
    assert lines(ann) == ["Here.", PICTURE, *(note(stage) if status == 500 else []), "Sent."]
    assert pictures(ann) == [png()]


@over("faults", "options")
async def test_a_whole_text_whose_confirmation_was_lost_stands_once_or_with_a_note(stage: Stage) -> None:
    stage.home.options = "stream = false\n"
    stage.models.script(Say("Hello."), Say("And again."))
    async with stage.conversation() as ann:
        stage.home.drop_answer("final")
        await ann.say("hi")
        await ann.until(lambda: lines(ann)[-1:] == (note(stage) or ["Hello."]))
        await ann.say("and?")
        await ann.until(lambda: "And again." in lines(ann))
    lost = [] if "recall" in stage.home.has else ["Hello."]
    assert lines(ann) == [*lost, "Hello.", *note(stage), "And again."]


@over_streams("faults", "recall")
async def test_a_growing_text_whose_confirmation_was_lost_stands_once(stage: Stage) -> None:
    stage.models.script([Say(["Hello.\n\n", Pause(), "Ann."])], Say("And again."))
    async with stage.conversation() as ann:
        stage.home.drop_answer("send")
        await ann.say("hi")
        await ann.until(lambda: "Hello." in lines(ann))
        stage.models.release()
        await ann.until(lambda: "Ann." in lines(ann))
        await ann.say("and?")
    assert lines(ann) == ["Hello.", "Ann.", "And again."]


@over("faults")
async def test_a_picture_whose_confirmation_was_lost_stands_once_or_with_a_note(stage: Stage) -> None:
    stage.workspace.mkdir()
    (stage.workspace / "blue.png").write_bytes(png())
    stage.models.script([Say("Here."), Call("send_file", {"path": "blue.png"})], Say("Sent."))
    async with stage.conversation() as ann:
        stage.home.drop_answer("upload")
        await ann.say("send me the picture")
    again = [] if "recall" in stage.home.has else [PICTURE, POSSIBLY_A_REPEAT]
    assert lines(ann) == ["Here.", PICTURE, *again, "Sent."]


@over_streams("faults")
async def test_a_change_whose_answer_was_lost_shows_once(stage: Stage) -> None:
    stage.models.script([Say(["One.\n\n", Pause(), "Two.\n\n", Pause(), "Three."])])
    async with stage.conversation() as ann:
        await ann.say("count")
        await ann.until(lambda: lines(ann) == ["One."])
        stage.home.drop_answer("edit")
        stage.models.release()
        await ann.until(lambda: lines(ann) == ["One.", "Two."])
        stage.models.release()
    assert lines(ann) == ["One.", "Two.", "Three."]


@over("accounts")
async def test_a_wrong_token_costs_one_account_and_status_names_it(stage: Stage) -> None:
    stage.more = stage.home.second_account()
    stage.models.script(Say("Here."))
    async with stage.conversation() as ann:
        await ann.say("hi")
        await ann.until(lambda: shows(ann, "Here."))
        while "second: " not in whole(ann):
            answers = len(ann.screen())
            await ann.say("/status")
            await ann.until(partial(more_than, ann, answers))
    assert lines(ann)[0] == "Here."
    [told] = {line for line in lines(ann) if line.startswith("second: ")}
    assert "token" in told
    assert "wrong" not in told


def more_than(place: Place, count: int) -> bool:
    return len(place.screen()) > count


# --- connections and gateways that go away ---------------------------------------------------------------------------


@over_streams("outage")
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


@over("server queue")
async def test_what_was_said_while_the_gateway_was_down_is_answered_in_order(stage: Stage) -> None:
    stage.models.respond(lambda request: Say("Noted."))
    async with stage.conversation() as ann:
        await ann.say("message 0")
    for number in range(1, 5):
        await ann.say(f"message {number}")
    async with stage.conversation():
        pass
    heard = "\n".join(read_by_model(stage.models.requests[-1]))
    assert re.findall(r"message (\d)", heard) == ["0", "1", "2", "3", "4"]
    assert set(lines(ann)) == {"Noted."}


def _words(shown: list[str]) -> list[str]:
    """The lines without the one that says that an answer was interrupted: screens of our own have it as a mark."""
    return [line for line in shown if "interrupted" not in line]


@over_streams()
async def test_a_reply_goes_on_in_its_message_after_a_restart(stage: Stage) -> None:
    stage.models.script([Say(["One two", Pause()])], [Pause(), Say("Three.")])
    ann = stage.home.main
    async with stage.gateway():
        await ann.say("count")
        await ann.until(lambda: lines(ann) == ["One two"])
        before = ann.screen()
    async with stage.conversation():
        await stage.models.until(2)
        await stage.models.until_held()
        stage.models.release(2)
    assert _words(lines(ann)) == ["One two", "Three."]
    assert ann.screen()[0].message == before[0].message
    assert read_by_model(stage.models.requests[1])[0] == "count"


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


@over("group")
async def test_a_reply_in_a_group_goes_on_in_its_place_after_a_restart(stage: Stage) -> None:
    stage.models.script([Say(["One two", Pause()])], [Pause(), Say("Three.")])
    group = stage.home.group()
    async with stage.gateway():
        await group.say(f"{stage.home.mention} count")
        await group.until(lambda: lines(group) == ["One two"])
        before = group.screen()
    async with stage.conversation(group):
        await stage.models.until(2)
        await stage.models.until_held()
        stage.models.release(2)
    assert _words(lines(group)) == ["One two", "Three."]
    assert group.screen()[0].message == before[0].message
    assert lines(stage.home.main) == []

"""What a platform refuses for good: told to the person and the model, and nothing else waits for it."""

from __future__ import annotations

from tests.channels.contract.home import Stage, lines, whole
from tests.channels.contract.rows import over, png
from tests.servers.models import Call, Say


@over("refusals", "group")
async def test_an_answer_that_a_group_does_not_take_goes_to_the_direct_chat(stage: Stage) -> None:
    stage.models.script(Say("The answer is 42."), Say("Again."), Say("Here."))
    group = stage.home.group()
    async with stage.conversation(group) as ann:
        await ann.say("/help")
        await ann.until(lambda: "I read it at once" in whole(ann))
        stage.home.close(group)
        question = await group.say(f"{stage.home.mention} what is it?")
        await ann.until(lambda: "could not be shown in the group" in whole(ann))
        await ann.until(lambda: "The answer is 42." in lines(ann))
        await group.until(lambda: "undelivered" in group.marks(question))
        await group.say(f"{stage.home.mention} and again?")
        await ann.until(lambda: "Again." in lines(ann))
        await ann.say("and here?")
        await ann.until(lambda: "Here." in lines(ann))
    assert "answered" not in group.marks(question)
    assert lines(group) == []


@over("refusals", "group")
async def test_a_server_that_fails_at_a_file_holds_up_nobody_and_is_given_up(stage: Stage) -> None:
    stage.workspace.mkdir()
    (stage.workspace / "blue.png").write_bytes(png())
    stage.models.script(
        [Say("Here."), Call("send_file", {"path": "blue.png"})], Say("Sent."), Say("In the group."), Say("Sorry.")
    )
    group = stage.home.group()
    async with stage.conversation(group) as ann:
        stage.home.break_uploads()
        picture = await ann.say("send me the picture")
        await stage.models.until(2)
        await group.say(f"{stage.home.mention} hello")
        await group.until(lambda: "In the group." in lines(group))
        waited = "could not be sent" not in whole(ann)
        await ann.until(lambda: "Sent." in lines(ann))
        await ann.until(lambda: "undelivered" in ann.marks(picture))
        await ann.say("and?")
    assert waited
    assert lines(ann)[0] == "Here."
    assert lines(ann)[1].startswith("📎 blue.png could not be sent: ")
    assert lines(ann)[2:] == ["Sent.", "Sorry."]
    assert "not delivered: " in str(stage.models.requests[3].results)

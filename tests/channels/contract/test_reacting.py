"""Reactions as answers, where the operator says so: the same everywhere, and only from people who may answer."""

from __future__ import annotations

import pytest

from tests.channels.contract.home import Place, Stage, whole
from tests.channels.contract.rows import over, said
from tests.servers.models import Call, Say

ON = "reaction_answers = true\n"
WHICH = Call("ask_user", {"question": "Tea or coffee?", "options": ["Tea", "Coffee"]})
OPEN = Call("ask_user", {"question": "Shall I begin?"})
APPROVED = '[tools.shell]\napproval = "always"\n'
SHELL = Call("shell", {"command": "echo ran > proof"})


@over("reacting")
@pytest.mark.parametrize(("yes", "chosen"), [(True, "Tea"), (False, "Coffee")])
async def test_a_reaction_on_a_question_chooses_its_option(stage: Stage, yes: bool, chosen: str) -> None:
    stage.home.options = ON
    stage.models.script(WHICH, Say("It is done."))
    async with stage.conversation() as ann:
        await ann.say("a drink")
        await ann.react("Tea or coffee?", yes=yes)
        await ann.until(lambda: "It is done." in whole(ann))
    assert chosen in str(stage.models.requests[-1].body["messages"][-1])


@over("reacting")
async def test_a_reaction_on_a_question_without_options_is_said_in_words(stage: Stage) -> None:
    stage.home.options = ON
    stage.models.script(OPEN, Say("It is done."))
    async with stage.conversation() as ann:
        await ann.say("go")
        await ann.react("Shall I begin?", yes=True)
        await ann.until(lambda: "It is done." in whole(ann))
    assert "Yes" in str(stage.models.requests[-1].body["messages"][-1])


@over("reacting")
@pytest.mark.parametrize("yes", [True, False])
async def test_a_reaction_decides_a_request_for_approval(stage: Stage, yes: bool) -> None:
    stage.home.options, stage.more = ON, APPROVED
    stage.models.script(SHELL, Say("It is done."))
    async with stage.conversation() as ann:
        await ann.say("run it")
        await ann.react("echo ran", yes=yes)
        await ann.until(lambda: "It is done." in whole(ann))
    assert (stage.workspace / "proof").exists() is yes
    assert ("Allowed" if yes else "Denied") in whole(stage.home.main)


@over("reacting", "group")
async def test_a_reaction_of_somebody_else_in_a_group_does_not_decide(stage: Stage) -> None:
    stage.home.options, stage.more = ON, APPROVED
    stage.models.script(SHELL, Say("It is done."))
    group: Place = stage.home.group()
    async with stage.conversation(group):
        await group.say(f"{stage.home.mention} run it")
        await group.react("echo ran", yes=True, by="Bob")
        await group.until(lambda: "Only admins and the person who started the task" in whole(group))
        assert not (stage.workspace / "proof").exists()
        await group.react("echo ran", yes=False, by="Ann")
        await group.until(lambda: "It is done." in whole(group))
    assert not (stage.workspace / "proof").exists()


@over("reacting")
async def test_a_reaction_where_nothing_is_asked_says_nothing(stage: Stage) -> None:
    stage.home.options = ON
    stage.models.script(Say("Hello."), Say("You are welcome."))
    async with stage.conversation() as ann:
        await ann.say("hi")
        await ann.react("Hello.", yes=True)
        await ann.say("thanks")
        await ann.until(lambda: "You are welcome." in whole(ann))
    assert len(stage.models.requests) == 2
    assert "Yes" not in said(stage.models.requests[-1])


@over("reacting")
async def test_without_the_setting_a_reaction_answers_nothing(stage: Stage) -> None:
    stage.models.script(WHICH, Say("It is done."))
    async with stage.conversation() as ann:
        await ann.say("a drink")
        await ann.react("Tea or coffee?", yes=True)
        await ann.say("Coffee, please")
        await ann.until(lambda: "It is done." in whole(ann))
    assert "Coffee, please" in str(stage.models.requests[-1].body["messages"][-1])

"""Places: groups, rooms and threads, each a conversation of its own."""

from __future__ import annotations

import re

from tests.channels.contract.home import INTERRUPTED, PICTURE, Stage, Upload, Words, lines, whole
from tests.channels.contract.rows import over, png, read_by_model, said, shows
from tests.channels.contract.web_home import WebPlace
from tests.servers.models import Call, Pause, Say

# --- groups ----------------------------------------------------------------------------------------------------------


@over("group")
async def test_in_a_group_a_mention_is_answered_and_other_talk_is_ignored(stage: Stage) -> None:
    stage.models.script(Say("Twelve."))
    group = stage.home.group()
    async with stage.conversation(group):
        await group.say("nice weather today")
        asked = await group.say(f"{stage.home.mention} how many are we?")
        await group.until(lambda: shows(group, "Twelve."))
        await group.say("twelve I think", by="Bob")
    [words] = group.screen()
    assert isinstance(words, Words)
    assert (words.plain, words.answers) == ("Twelve.", asked)
    assert lines(stage.home.main) == []
    assert [read_by_model(request) for request in stage.models.requests] == [["Ann: how many are we?"]]


@over("group")
async def test_in_a_group_the_model_knows_who_interjects(stage: Stage) -> None:
    stage.models.script([Say(["One two\n\n", Pause(), " three"])], Say("For Bob: in fives."))
    group = stage.home.group()
    async with stage.conversation(group):
        await group.say(f"{stage.home.mention} count")
        await group.until(lambda: "One two" in lines(group))
        await group.say(f"{stage.home.mention} in fives", by="Bob")
    assert lines(group) == ["One two", INTERRUPTED, "For Bob: in fives."]
    assert "Ann: count" in said(stage.models.requests[1])
    assert "Bob: in fives" in said(stage.models.requests[1])


@over("group")
async def test_in_a_group_only_the_asker_may_stop_what_runs(stage: Stage) -> None:
    stage.models.script([Say(["One two\n\n", Pause(), " three"])])
    group = stage.home.group()
    async with stage.conversation(group):
        await group.say(f"{stage.home.mention} count")
        await group.until(lambda: "One two" in lines(group))
        await group.say("/stop", by="Bob")
        await group.until(lambda: "Only Ann and admins may stop this." in whole(group))
        stage.models.release()
        await group.until(lambda: "three" in whole(group))
    assert "Stopped" not in whole(group)


@over("group", "options")
async def test_an_admin_may_stop_what_others_asked_for(stage: Stage) -> None:
    stage.models.script([Say(["One two\n\n", Pause(), " three"])])
    stage.home.options = f'admins = ["{stage.home.ann}"]\n'
    group = stage.home.group()
    async with stage.conversation(group):
        await group.say(f"{stage.home.mention} count", by="Bob")
        await group.until(lambda: "One two" in lines(group))
        await group.say("/stop")
        await group.until(lambda: "Stopped: the model is answering" in whole(group))
    assert lines(group)[:2] == ["One two", INTERRUPTED]
    assert stage.models.requests[0].disconnected


@over("group", "options")
async def test_with_groups_off_a_mention_is_none_of_ours(stage: Stage) -> None:
    stage.home.options = 'groups = "off"\n'
    stage.models.script(Say("Hello Ann."))
    group, ann = stage.home.group(), stage.home.main
    async with stage.gateway():
        await group.say(f"{stage.home.mention} how many are we?", by="Bob")
        await ann.say("hi")
        await ann.until(lambda: shows(ann, "Hello Ann."))
    assert lines(group) == []
    assert [read_by_model(request) for request in stage.models.requests] == [["hi"]]


@over("group", "options", "bots")
async def test_with_all_of_a_group_read_its_people_need_no_mention_and_other_bots_are_ignored(stage: Stage) -> None:
    stage.home.options = 'groups = "all"\n'
    stage.models.script(Say("Twelve."))
    group = stage.home.group()
    async with stage.conversation(group):
        await group.bot_says("deployed")
        await group.say("how many are we?")
        await group.until(lambda: shows(group, "Twelve."))
    assert [read_by_model(request) for request in stage.models.requests] == [["Ann: how many are we?"]]


@over("bots")
async def test_other_bots_are_ignored(stage: Stage) -> None:
    stage.models.script(Say("Hello Ann."))
    group = stage.home.group()
    async with stage.conversation(group):
        await group.bot_says("say hello to Ann")
        await group.say(f"{stage.home.mention} hi")
        await group.until(lambda: shows(group, "Hello Ann."))
    assert lines(group) == ["Hello Ann."]
    assert [read_by_model(request) for request in stage.models.requests] == [["Ann: hi"]]


# --- rooms and threads -----------------------------------------------------------------------------------------------


@over("channels")
async def test_a_room_keeps_its_place_and_is_a_conversation_of_its_own(stage: Stage) -> None:
    red, blue = stage.home.room("red"), stage.home.room("blue")
    stage.models.respond(lambda request: [Say(["Of ", Pause(), read_by_model(request)[-1].split(": ")[-1]])])
    async with stage.conversation(red, blue) as ann:
        await red.say("red things")
        await blue.say("blue things")
        await ann.say("my things")
        # All three are being answered at the same time.
        await stage.models.until(lambda: sum(request.held for request in stage.models.requests) == 3)
        stage.models.release(3)
        await red.until(lambda: lines(red) == ["Of red things"])
        await red.say("more red things")
        stage.models.release()
    assert lines(red) == ["Of red things", "Of more red things"]
    assert lines(blue) == ["Of blue things"]
    assert lines(ann) == ["Of my things"]
    asked = sorted(read_by_model(request) for request in stage.models.requests)
    reds = [red.read_as("red things"), red.read_as("more red things")]
    assert asked == sorted([[blue.read_as("blue things")], ["my things"], reds[:1], reds])


@over("channels")
async def test_what_waits_for_a_slot_is_read_together_once_there_is_one(stage: Stage) -> None:
    stage.agent = "max_running_turns = 1"
    stage.models.script([Pause(), Say("First.")], Say("Both."))
    red = stage.home.room("red")
    async with stage.conversation(red) as ann:
        await red.say("work")
        await stage.models.until_held()
        await ann.say("one thing")
        await ann.say("another thing")
        await ann.heard()
        stage.models.release()
    assert lines(red) == ["First."]
    assert lines(ann) == ["Both."]
    assert read_by_model(stage.models.requests[1]) == ["one thing\n\nanother thing"]


@over("history")
async def test_after_a_reload_a_reply_stands_behind_the_messages_that_it_began_with(stage: Stage) -> None:
    stage.agent = "max_running_turns = 1"
    stage.models.script([Pause(), Say("First.")], Say("Both."))
    main, red = stage.home.main, stage.home.room("red")
    assert isinstance(main, WebPlace)
    async with stage.conversation(red) as ann:
        await red.say("work")
        await stage.models.until_held()
        await ann.say("one thing")
        await ann.say("another thing")
        stage.models.release()
        await ann.until(lambda: shows(ann, "Both."))
        reloaded = await main.reload()
    assert [item.get("text", "a reply") for item in reloaded] == ["one thing", "another thing", "a reply"]


@over("thread root")
async def test_the_message_that_a_thread_begins_with_is_shown_to_the_model_once(stage: Stage) -> None:
    stage.models.script(Say("Paris is."), Say("Of course."))
    async with stage.gateway():
        # The thread is begun while the gateway looks on: its first message is none of the bot's.
        thread = await stage.home.thread("Which city is it: Paris or Rome?")
        await thread.say("answer that")
        await thread.until(lambda: shows(thread, "Paris is."))
        await thread.say("sure?")
        await thread.until(lambda: shows(thread, "Of course."))
    assert lines(thread) == ["Paris is.", "Of course."]
    first, second = stage.models.requests
    root = '[The first message of this thread, from Bob: "Which city is it: Paris or Rome?"]'
    assert read_by_model(first) == [f"{root}\nAnn: answer that"]
    assert read_by_model(second)[1:] == ["Ann: sure?"]


@over("thread root")
async def test_the_picture_that_a_thread_begins_with_is_shown_to_the_model(stage: Stage) -> None:
    stage.models.script(Say("A blue one."))
    async with stage.gateway():
        thread = await stage.home.thread("look", Upload("blue.png", png(), "photo"))
        await thread.say("what is this?")
        await thread.until(lambda: shows(thread, "A blue one."))
    [message] = [message for message in stage.models.requests[0].messages if message.role == "user"]
    assert message.images == (png(),)
    assert 'The first message of this thread, from Bob: "look"' in message.text


@over("thread root")
async def test_a_picture_made_in_a_thread_stays_in_it(stage: Stage) -> None:
    stage.workspace.mkdir()
    (stage.workspace / "blue.png").write_bytes(png())
    stage.models.script([Say("Here."), Call("send_file", {"path": "blue.png"})], Say("There."))
    async with stage.gateway():
        thread = await stage.home.thread("I need a picture")
        await thread.say("make one")
        await thread.until(lambda: shows(thread, "There."))
    assert lines(thread) == ["Here.", PICTURE, "There."]
    assert lines(stage.home.main) == []


# --- who may speak ---------------------------------------------------------------------------------------------------


@over("allowlist")
async def test_whoever_is_not_allowed_is_told_once_and_only_in_private(stage: Stage) -> None:
    stage.home.allow = [stage.home.ann]
    eve, group = stage.home.stranger(), stage.home.group()
    stage.models.script(Say("Hello Ann."))
    async with stage.conversation(eve, group) as ann:
        await group.say(f"{stage.home.mention} let me in", by="Bob")
        await eve.say("let me in")
        await eve.until(lambda: len(lines(eve)) == 1)
        await eve.say("please")
        await ann.say("hi")
    [refusal] = lines(eve)
    assert re.fullmatch(r"You are not on the allowlist of this bot\. \(Your user id is \w+\.\)", refusal)
    assert lines(group) == []
    assert lines(ann) == ["Hello Ann."]
    assert [read_by_model(request) for request in stage.models.requests] == [["hi"]]


@over("allowlist", "options")
async def test_a_stranger_is_let_in_by_an_admin_with_their_code(stage: Stage) -> None:
    stage.home.allow = [stage.home.ann]
    stage.home.options = f'admins = ["{stage.home.ann}"]\npair = true\n'
    eve = stage.home.stranger()
    stage.models.script(Say("Hello Eve."))
    async with stage.conversation(eve) as ann:
        await eve.say("let me in")
        code = await eve.until(lambda: re.search(r"Your pairing code is (\w+)", whole(eve)))
        await ann.say(f"/pair {code[1]}")
        await eve.until(lambda: "Your access was approved." in whole(eve))
        await eve.say("hi")
        await eve.until(lambda: shows(eve, "Hello Eve."))
    [approved] = lines(ann)
    assert re.fullmatch(r"Approved: Eve \(\w+\) may now write to me\.", approved)
    assert read_by_model(stage.models.requests[0]) == ["hi"]

"""Replies: texts, pictures and files, whole and in order, as the platform can show them."""

from __future__ import annotations

import re
from functools import partial
from io import BytesIO

from PIL import Image

from tests.channels.contract.home import (
    PICTURE,
    File,
    Stage,
    code,
    lines,
    pictures,
    whole,
)
from tests.channels.contract.rows import (
    over,
    over_streams,
    png,
    shows,
)
from tests.servers.models import Call, Pause, Say


@over_streams()
async def test_a_reply_is_shown_while_it_grows(stage: Stage) -> None:
    stage.models.script([Say(["One", Pause(), " two", Pause(), " three."])])
    async with stage.conversation() as ann:
        await ann.say("count")
        for text in ("One", "One two"):
            await ann.until(partial(shows, ann, text))
            stage.models.release()
    assert lines(ann) == ["One two three."]
    assert len(ann.screen()) == 1


@over_streams()
async def test_a_long_reply_arrives_complete_and_in_order(stage: Stage) -> None:
    words = [f"w{number:04}" for number in range(2400)]
    paragraphs = [" ".join(words[start : start + 80]) for start in range(0, 2400, 80)]
    stage.models.script(Say("\n\n".join(paragraphs), pieces=40))
    async with stage.conversation() as ann:
        await ann.say("tell me all")
    assert len("\n\n".join(paragraphs)) > 12_000
    assert re.findall(r"w\d{4}", whole(ann)) == words


@over_streams()
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


@over_streams()
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


@over()
async def test_several_pictures_stand_in_the_order_in_which_they_were_made(stage: Stage) -> None:
    colors = ("#ff0000", "#00ff00", "#0000ff")
    stage.workspace.mkdir()
    for number, color in enumerate(colors):
        (stage.workspace / f"{number}.png").write_bytes(png(color))
    sent = [Call("send_file", {"path": f"{number}.png"}) for number in range(3)]
    stage.models.script([Say("Three of them:"), *sent], Say("There they are."))
    async with stage.conversation() as ann:
        await ann.say("send me the pictures")
    assert lines(ann) == ["Three of them:", PICTURE, PICTURE, PICTURE, "There they are."]
    assert pictures(ann) == [png(color) for color in colors]


@over("group")
async def test_a_reply_in_a_group_is_shown_there_while_it_grows(stage: Stage) -> None:
    stage.models.script([Say(["One two\n\n", Pause(), "three."])])
    group = stage.home.group()
    async with stage.conversation(group):
        await group.say(f"{stage.home.mention} count")
        await group.until(lambda: "One two" in lines(group))
        stage.models.release()
        await group.until(lambda: "three." in lines(group))
    assert lines(group) == ["One two", "three."]
    assert len(group.screen()) == 1
    assert lines(stage.home.main) == []


@over("options")
async def test_without_streaming_a_reply_is_shown_once_it_is_whole(stage: Stage) -> None:
    stage.home.options = "stream = false\n"
    stage.models.script([Say(["One two\n\n", Pause(), "three."])])
    async with stage.conversation() as ann:
        await ann.say("count")
        await stage.models.until_held()
        await ann.say("/status")
        await ann.until(lambda: "Running task: the model is answering" in whole(ann))
        assert "One two" not in whole(ann)
        stage.models.release()
    assert whole(ann).count("One two") == 1
    assert lines(ann)[-1] == "three."


@over_streams("typing")
async def test_typing_shows_while_nothing_else_does(stage: Stage) -> None:
    stage.models.script([Pause(), Say("There.")])
    async with stage.conversation() as ann:
        await ann.say("think")
        await ann.until(ann.typing)
        assert lines(ann) == []
        stage.models.release()
    assert lines(ann) == ["There."]


@over("faults")
async def test_a_picture_that_the_platform_refuses_is_named(stage: Stage) -> None:
    """Perhaps as the name of the file that it is sent as instead."""
    stage.workspace.mkdir()
    (stage.workspace / "blue.png").write_bytes(png())
    stage.models.script([Say("Here."), Call("send_file", {"path": "blue.png", "caption": "Blue"})], Say("Sent."))
    async with stage.conversation() as ann:
        stage.home.fail_next("upload", 400)
        await ann.say("send me the picture")
    assert whole(ann).count("blue.png") == 1
    assert whole(ann).count("Blue") == 1
    assert (lines(ann)[0], lines(ann)[-1]) == ("Here.", "Sent.")
    assert pictures(ann) == []

"""Replies that a platform does not take, or only in another form, through the real SDK of Telegram."""

from __future__ import annotations

from pathlib import Path

from tests.gateway.stage import gateway, write_settings
from tests.servers.models import Call, ModelServer, Pause, Say
from tests.servers.telegram import BotApi, Chat

LINKS = "\n".join(f"- [page {n}](https://example.com/{n}/{'x' * 390})" for n in range(36))
TOO_LARGE = "Request Entity Too Large"
NO_RIGHTS = "Bad Request: not enough rights to send text messages to the chat"
CHART = {"kind": "bar", "title": "Fruit", "labels": ["a", "b"], "series": [{"name": "n", "values": [1, 2]}]}
MENTION = "@interject_test_bot"


def reactions(api: BotApi, chat: Chat) -> list[str]:
    """The states of messages that were shown there."""
    calls = [call.params for call in api.called("setMessageReaction") if call.params.text("chat_id") == str(chat.id)]
    return [reaction["emoji"] for call in calls for reaction in call.json("reaction", list) or []]


def seen_by(models: ModelServer, request: int = -1) -> str:
    """All that the model was shown in the request."""
    asked = models.requests[request]
    return "\n".join([message.text for message in asked.messages] + list(asked.results.values()))


async def test_a_file_that_telegram_finds_too_large_is_explained_and_the_chat_goes_on(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    models.script([Say("Here."), Call("draw_chart", CHART)], Say("Sent."), Say("Sorry."))
    api.fail_next("sendPhoto", 413, description=TOO_LARGE, times=99)
    api.fail_next("sendDocument", 413, description=TOO_LARGE, times=99)
    async with gateway(write_settings(tmp_path, api, models)):
        ann = api.private()
        await ann.say("draw it")
        note = f"could not be sent: Telegram rejects it: {TOO_LARGE} (413)"
        await ann.until(lambda ann: len(ann.texts) == 3 and note in ann.texts[1] and ann.texts[2] == "Sent.")
        await api.until(lambda api: "😢" in reactions(api, ann))
        await ann.say("/status")
        await ann.hear("Not delivered: 1 reply")
        await ann.say("and?")
        await ann.hear("Sorry.")
    assert len(api.called("sendDocument")) == 1
    assert "👌" not in reactions(api, ann)[: reactions(api, ann).index("😢")]
    assert f"not delivered: Telegram rejects it: {TOO_LARGE} (413)" in seen_by(models)


async def test_a_running_turn_learns_at_its_next_step_what_was_not_delivered(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    models.script([Call("draw_chart", CHART)], [Pause(), Call("list_files", {})], Say("Sorry."))
    for method in ("sendPhoto", "sendDocument"):
        api.fail_next(method, 400, description="Bad Request: IMAGE_PROCESS_FAILED")
    async with gateway(write_settings(tmp_path, api, models)):
        ann = api.private()
        await ann.say("draw it")
        await ann.hear("could not be sent")
        await models.until_held()
        models.release()
        await ann.hear("Sorry.")
    results = list(models.requests[2].results.values())
    assert "not delivered: Telegram rejects it: Image_process_failed" in results[0]


async def test_many_long_links_are_shown_as_links(tmp_path: Path, api: BotApi, models: ModelServer) -> None:
    models.script(Say(LINKS))
    async with gateway(write_settings(tmp_path, api, models)):
        ann = api.private()
        await ann.say("which pages?")
        await ann.until(lambda ann: "page 35" in "".join(ann.texts))
        await api.until(lambda api: "👌" in reactions(api, ann))
    links = [entity for shown in ann.messages for entity in shown.entities if entity["type"] == "text_link"]
    assert len(links) == 36
    assert not [each for each in api.refusals if each.status == 400]


async def test_a_text_that_telegram_refuses_is_shown_without_formatting(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    models.script(Say(LINKS))
    api.fail_next("sendMessage", 400, description="Bad Request: ENTITIES_TOO_LONG")
    async with gateway(write_settings(tmp_path, api, models, more="stream = false\n")):
        ann = api.private()
        await ann.say("which pages?")
        await api.until(lambda api: "👌" in reactions(api, ann))
    everything = "\n".join(ann.texts)
    assert [f"page {n}" in everything for n in range(36)] == [True] * 36
    assert "page 3 (https://example.com/3/xxx" in everything


async def test_what_cannot_be_shown_in_any_form_is_said_in_its_place(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    models.script(Say("**bad** words"), Say("Sorry."))
    api.fail_next("sendMessage", 400, description="Bad Request: WORDS_FORBIDDEN", times=2)
    async with gateway(write_settings(tmp_path, api, models, more="stream = false\n")):
        ann = api.private()
        await ann.say("say it")
        reason = "Telegram rejects it: Words_forbidden"
        await ann.hear(f"⚠️ A part of this answer could not be shown here: {reason}")
        await api.until(lambda api: "😢" in reactions(api, ann))
        await ann.say("and?")
        await ann.hear("Sorry.")
    assert f"could not be shown to the person: {reason}" in seen_by(models)


async def test_an_answer_in_a_deleted_topic_goes_to_the_direct_chat(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    models.script(Say("The answer is 42."), Say("Here again."))
    ann, forum = api.private(), api.forum(topics=["News"])
    topic = forum.topic("News")
    api.fail_next("sendMessage", 400, description="Bad Request: message thread not found", chat_id=forum.id, times=99)
    async with gateway(write_settings(tmp_path, api, models)):
        await forum.say(f"{MENTION} what is it?", topic=topic)
        shown = await ann.hear("could not be shown in the group")
        assert "the topic is deleted" in shown.text
        assert "The answer is 42." in shown.text
        await api.until(lambda api: "😢" in reactions(api, forum))
        await ann.say("hello")
        await ann.hear("Here again.")
    assert "👌" not in reactions(api, forum)


async def test_no_stop_button_stays_where_a_reply_cannot_go_on(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    models.script([Say(["One.", Pause(), " Two."])], Say("Three."))
    async with gateway(write_settings(tmp_path, api, models)):
        ann = api.private()
        await ann.say("count")
        await ann.until(lambda ann: ann.messages and ann.messages[0].buttons)
        api.fail_next("sendMessage", 400, description=NO_RIGHTS, times=99)
        await ann.say("go on")
        await ann.until(lambda ann: ann.messages[0].buttons == [])
        await api.until(lambda api: "😢" in reactions(api, ann))


async def test_redeliver_shows_what_was_refused(tmp_path: Path, api: BotApi, models: ModelServer) -> None:
    models.script(Say("The answer is 42."))
    async with gateway(write_settings(tmp_path, api, models, more="stream = false\n")):
        ann = api.private()
        api.fail_next("sendMessage", 400, description=NO_RIGHTS)
        await ann.say("what is it?")
        await api.until(lambda api: "😢" in reactions(api, ann))
        await ann.say("/redeliver")
        await ann.hear("The answer is 42.")


async def test_another_form_survives_a_restart(tmp_path: Path, api: BotApi, models: ModelServer) -> None:
    models.script([Say(["**One**", Pause(), " two."])], [Pause(), Say("**two.**")])
    ann, file = api.private(), write_settings(tmp_path, api, models)
    api.fail_next("sendMessage", 400, description="Bad Request: ENTITIES_TOO_LONG")
    async with gateway(file):
        await ann.say("count")
        await ann.hear("One")
    async with gateway(file):
        await models.until(2)
        await models.until_held()
        models.release(2)
        await api.until(lambda api: "👌" in reactions(api, ann))
    assert ann.texts == ["One\n\n⏸ interrupted by a restart\n\ntwo."]
    assert ann.messages[0].entities == []

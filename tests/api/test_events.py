"""Events of conversations on every channel, over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from gateway.api import follower
from gateway.api.broadcast import Broadcast
from gateway.api.events import adapter, types
from gateway.assembly.build import Built
from gateway.bus import TurnParked, TurnStarted
from tests.api.conftest import Api, control_api
from tests.api.streams import Stream, watching
from tests.api.test_messages import send
from tests.gateway.play import until
from tests.gateway.stage import gateway, write_settings
from tests.servers.models import Call, ModelServer, Pause, Say
from tests.servers.telegram import BotApi

WAITING = '''\
import asyncio
from pathlib import Path

from interject import ToolContext, tool


@tool(effect="write")
async def wait_for(context: ToolContext, file: str) -> str:
    """Waits until the file is there."""
    while not Path(file).exists():
        await asyncio.sleep(0.01)
    return "It is there."
'''

ASKING = """
[tools.shell]
approval = "always"
"""


async def the_conversation(control: Api) -> str:
    listed = (await control.client.get("/conversations")).json()["conversations"]
    return str(listed[0]["id"])


async def test_a_turn_in_telegram_is_told_in_order_and_its_end_comes_last(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.script([Say("Looking."), Call("list_files", {"path": "."})], Say("Nothing there."))
    async with control_api(tmp_path, api, models) as control, watching(control.client) as stream:
        ann = api.private(7, "Ann")
        await ann.say("what is there?")
        ended = await stream.until("run.ended")
    told = [each for each in stream.types[1:] if each not in ("reply", "reply.changed")]
    assert told == [
        "message",
        "turn.started",
        "message.state",
        "turn.step",
        "tool.started",
        "tool.ended",
        "turn.step",
        "message.state",
        "run.ended",
    ]
    message, started = stream.events[1].data, stream.events[2].data
    assert message["message"]["text"] == "what is there?"
    assert message["message"]["sender"] == {"id": "7", "name": "Ann"}
    assert message["message"]["state"] == "waiting"
    assert (started["agent"], started["by"]["name"]) == ("main", "Ann")
    turn = started["turn"]
    assert ended.data["run"]["state"] == "completed"
    assert ended.data["run"]["run"] == message["message"]["run"] == turn
    last_reply = max(index for index, type in enumerate(stream.types) if type == "reply")
    assert stream.events[last_reply].data["reply"]["done"]
    assert "reply.changed" not in stream.types[last_reply:]
    assert stream.text(turn) == "Looking.\n\nNothing there."
    assert len({event.id for event in stream.events}) == len(stream.events)
    for event in stream.events:
        adapter().validate_python(event.data)


async def test_a_growing_reply_is_the_same_for_who_comes_early_and_late(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.script(Say("Hello."), [Say(["One ", Pause(), "two ", Pause(), "three."])])
    async with control_api(tmp_path, api, models) as control:
        ann = api.private(7, "Ann")
        await ann.say("hi")
        await ann.hear("Hello.")
        id = await the_conversation(control)
        async with watching(control.client, id) as early:
            await ann.say("count")
            await early.until("reply", "reply.changed", where=lambda data: "One" in str(data))
            async with watching(control.client, id) as late:
                assert late.types == ["snapshot"]
                models.release()
                await late.until("reply.changed", where=lambda data: "two" in str(data))
                models.release()
                turn = (await late.until("run.ended")).data["turn"]
                await early.until("run.ended")
    assert early.types[0] == "snapshot"
    assert early.text(turn) == late.text(turn) == "One two three."
    assert any(event.data.get("grown") for event in early.events)
    shared = {event.id: event.raw for event in late.events[1:]}
    assert shared
    assert {event.id: event.raw for event in early.events if event.id in shared} == shared


async def test_a_client_that_comes_back_takes_up_where_it_was(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.script(Say("Hello."), [Say(["One ", Pause(), "two."])])
    async with control_api(tmp_path, api, models) as control:
        ann = api.private(7, "Ann")
        await ann.say("hi")
        await ann.hear("Hello.")
        id = await the_conversation(control)
        async with watching(control.client, id) as before:
            await ann.say("count")
            await before.until("reply", "reply.changed", where=lambda data: "One" in str(data))
        models.release()
        await ann.hear("One two.")
        async with watching(control.client, id, after=before.last_id) as after:
            after.take_over(before)
            turn = (await after.until("run.ended")).data["turn"]
    assert "snapshot" not in after.types
    assert "reset" not in after.types
    assert after.text(turn) == "One two."
    assert after.types[0] == "ping"
    numbers = [int(event.id.partition("-")[2]) for event in (*before.events, *after.events[1:])]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def test_who_comes_back_late_is_told_of_calls_that_were_asked_for_meanwhile(
    tmp_path: Path, models: ModelServer, api: BotApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    broadcasts: list[Broadcast] = []

    def made() -> Broadcast:
        broadcasts.append(Broadcast(warm_seconds=0))
        return broadcasts[-1]

    monkeypatch.setattr(follower, "Broadcast", made)
    monkeypatch.setattr(follower, "CHECK_SECONDS", 0.01)
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "waiting.py").write_text(WAITING)
    first, second = tmp_path / "first", tmp_path / "second"
    calls = [Call("wait_for", {"file": str(file)}) for file in (first, second)]
    models.script(Say("Hello."), Say("Hello."), [Say(["Look", Pause(), "ing."]), *calls], Say("Done."))
    async with control_api(tmp_path, api, models) as control:
        ann, ben = api.private(7, "Ann"), api.private(8, "Ben")
        await ben.say("hi")
        await ben.hear("Hello.")
        bens = await the_conversation(control)
        await ann.say("hi")
        await ann.hear("Hello.")
        anns = await the_conversation(control)
        async with watching(control.client, bens):
            async with watching(control.client, anns) as stream:
                await ann.say("wait")
                await stream.until("reply", "reply.changed", where=lambda data: "Look" in str(data))
            (turn,) = control.built.gateway.dispatcher.running()
            await until(lambda: not any(each.is_watched(turn.session) for each in broadcasts))
            models.release()
            await ann.hear("Looking.")
            async with watching(control.client, anns) as stream:
                first.touch()
                ended = await stream.until("tool.ended")
                started = await stream.until("tool.started")
                second.touch()
                await stream.until("run.ended")
    assert ended.data["name"] == started.data["name"] == "wait_for"
    assert str(second) in started.data["arguments"]


async def test_an_id_of_an_earlier_process_begins_anew(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.respond(lambda _: Say("Hello."))
    async with control_api(tmp_path, api, models) as control:
        ann = api.private(7, "Ann")
        await ann.say("hi")
        await ann.hear("Hello.")
        id = await the_conversation(control)
        async with watching(control.client, id, after="0badcafe-12") as stream:
            snapshot = await stream.next()
        async with watching(control.client, after="0badcafe-12") as everything:
            pass
    assert stream.types == ["reset", "snapshot"]
    message, reply = snapshot.data["items"]
    assert (message["text"], message["state"]) == ("hi", "answered")
    assert reply["reply"]["segments"][0]["markdown"] == "Hello."
    assert everything.types == ["reset"]


async def test_an_approval_is_told_when_it_is_asked_and_when_it_is_decided(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.script(Call("shell", {"command": "true"}), Say("Done."))
    async with control_api(tmp_path, api, models, more=ASKING) as control, watching(control.client) as stream:
        ann = api.private(7, "Ann")
        await ann.say("do it")
        asked = (await stream.until("decision.asked")).data
        parked = (await stream.until("turn.parked")).data
        found = (await control.client.get(f"/decisions/{asked['id']}")).json()
        await ann.say("yes")
        decided = (await stream.until("decision.decided")).data
        await stream.until("run.ended", where=lambda data: data["turn"] == asked["turn"])
    assert (asked["kind"], parked["decisions"]) == ("approval", [asked["id"]])
    assert asked["until"] == found["until"]
    assert (decided["id"], decided["decision"]) == (asked["id"], "allowed")
    assert stream.types.count("decision.decided") == 1


async def test_what_is_asked_is_told_also_where_the_start_is_told_late(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.script(Call("shell", {"command": "true"}))
    async with control_api(tmp_path, api, models, more=ASKING) as control:
        ann = api.private(7, "Ann")
        await ann.say("do it")
        await ann.hear("shell")
        [asked] = (await control.client.get("/decisions")).json()["decisions"]
        gateway = control.built.gateway
        turn = await gateway.store.turn(asked["turn"])
        async with watching(control.client) as stream:
            gateway.bus.publish(TurnStarted(turn.session, turn.address, turn.id))
            gateway.bus.publish(TurnParked(turn.session, turn.address, turn.id))
            told = (await stream.until("decision.asked")).data
            parked = (await stream.until("turn.parked")).data
    assert (told["id"], parked["decisions"]) == (asked["id"], [asked["id"]])


async def test_a_new_conversation_at_the_same_place_brings_a_new_snapshot(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Hello."))
    async with control_api(tmp_path, api, models) as control:
        ann = api.private(7, "Ann")
        await ann.say("hi")
        await ann.hear("Hello.")
        id = await the_conversation(control)
        async with watching(control.client, id) as stream:
            await ann.say("/new")
            changed = await stream.until("conversation.changed")
            snapshot = await stream.until("snapshot")
            await stream.until("run.ended")
            await ann.say("again")
            await stream.until("run.ended")
    assert changed.data["change"] == "new"
    assert "hi" not in [item.get("text") for item in snapshot.data["items"]]
    assert "again" in [event.data["message"]["text"] for event in stream.events if event.type == "message"]


async def test_an_answer_to_a_command_is_a_reply(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    async with control_api(tmp_path, api, models) as control, watching(control.client) as stream:
        await api.private(7, "Ann").say("/help")
        await stream.until("message.state")
    assert [each for each in stream.types if each != "ping"] == ["message", "reply", "message.state"]
    assert stream.events[-1].data["state"] == "answered"
    assert "/stop" in stream.text(stream.events[2].data["turn"])


async def test_the_end_of_the_gateway_ends_streams(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    began = asyncio.Event()

    async def watch(control: Api) -> Stream:
        async with control.using(control.token) as client, watching(client) as stream:
            began.set()
            while await anext(stream, None) is not None:
                pass
        return stream

    async with asyncio.TaskGroup() as group, control_api(tmp_path, api, models) as control:
        task = group.create_task(watch(control))
        await began.wait()
    assert task.result().types == ["ping"]


async def test_what_ends_while_the_gateway_stops_is_told(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.script(Say([Pause(), "Hello."]))
    settings = write_settings(tmp_path, api, models)
    settings.write_text(settings.read_text().replace("shutdown_grace = 0", "shutdown_grace = 60"))
    began, stopping = asyncio.Event(), asyncio.Event()

    async def watch(built: Built) -> Stream:
        assert built.link is not None
        link = urlsplit(built.link)
        headers = {"Authorization": f"Bearer {parse_qs(link.query)['token'][0]}"}
        url = f"http://{link.netloc}/api/v1"
        async with (
            httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=60) as client,
            watching(client) as stream,
        ):
            began.set()
            await stream.until("message")
            await stopping.wait()
            while (await client.patch("/conversations/none/queue/1", json={"text": "new work"})).status_code != 503:
                pass
            models.release()
            while await anext(stream, None) is not None:
                pass
        return stream

    async with asyncio.TaskGroup() as group, gateway(settings) as built:
        task = group.create_task(watch(built))
        await began.wait()
        await api.private(7, "Ann").say("hi")
        await models.until_held()
        stopping.set()
    assert task.result().events[-1].data["run"]["state"] == "completed"


async def test_a_key_is_told_only_of_its_conversations(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.respond(lambda _: Say("Hello."))
    async with control_api(tmp_path, api, models) as control:
        key = {"name": "ci", "scope": "read", "conversations": ["telegram:*:8"]}
        secret = (await control.client.post("/keys", json=key)).json()["secret"]
        async with control.using(secret) as program, watching(program) as stream:
            ann, bob = api.private(7, "Ann"), api.private(8, "Bob")
            await ann.say("not for the program")
            await ann.hear("Hello.")
            await bob.say("for the program")
            await stream.until("run.ended")
            hidden = await program.get("/conversations/telegram:123456:7/events")
    told = {event.data["conversation"] for event in stream.events if "conversation" in event.data}
    assert told == {"telegram:123456:8"}
    assert not {"channel.trouble", "channel.ok"} & set(stream.types)
    assert hidden.status_code == 404


async def test_a_channel_in_trouble_is_told_with_what_is_wrong(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    api.fail_next("getUpdates", 409, times=100)
    async with control_api(tmp_path, api, models) as control:
        await api.until(lambda api: api.refusals)
        async with watching(control.client) as stream:
            trouble = await stream.until("channel.trouble")
    assert trouble.data["channel"] == "telegram"
    assert trouble.data["problem"]


async def test_another_title_is_told(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.respond(lambda _: Say("Hello."))
    async with control_api(tmp_path, api, models) as control:
        ann = api.private(7, "Ann")
        await ann.say("hi")
        await ann.hear("Hello.")
        id = await the_conversation(control)
        async with watching(control.client, id) as stream:
            await control.client.patch(f"/conversations/{id}", json={"title": "Tea and cake"})
            changed = await stream.next()
    assert (changed.type, changed.data["change"], changed.data["title"]) == (
        "conversation.changed",
        "title",
        "Tea and cake",
    )


async def test_runs_that_one_turn_answers_all_end_after_its_reply(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.script([Say(["One two", Pause(), " three"])], Say("Five ten"))
    async with control_api(tmp_path, api, models) as control, watching(control.client) as stream:
        ann = api.private(7, "Ann")
        await ann.say("count")
        await stream.until("reply", where=lambda data: "One two" in str(data))
        await ann.say("in fives please")
        first, second = [await stream.until("run.ended") for _ in range(2)]
    assert [each.data["run"]["state"] for each in (first, second)] == ["completed", "completed"]
    assert all(each.data["run"]["text"].endswith("Five ten") for each in (first, second))
    assert stream.types[-4:] == ["message.state", "message.state", "run.ended", "run.ended"]
    done = [index for index, event in enumerate(stream.events) if event.data.get("reply", {}).get("done")]
    assert len(done) == 1
    assert stream.types[done[0] + 1 :] == stream.types[-4:]


async def test_known_secrets_are_masked_while_a_reply_grows(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.script([Say(["The key is test-key, isn't it", Pause(), "?"])])
    async with control_api(tmp_path, api, models) as control, watching(control.client) as stream:
        await api.private(7, "Ann").say("what is the key?")
        await stream.until("reply")
        models.release()
        await stream.until("run.ended")
    assert "The key is" in stream.text(stream.events[-1].data["turn"])
    assert not [event for event in stream.events if "test-key" in event.raw]


async def test_a_deleted_conversation_is_empty_for_who_watches_it(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Hello."))
    async with control_api(tmp_path, api, models) as control:
        ann = api.private(7, "Ann")
        await ann.say("hi")
        await ann.hear("Hello.")
        id = await the_conversation(control)
        async with watching(control.client, id) as stream:
            assert (await control.client.delete(f"/conversations/{id}")).status_code < 300
            changed = await stream.until("conversation.changed")
            snapshot = await stream.until("snapshot")
    assert changed.data["change"] in ("deleted", "new")
    assert snapshot.data["items"] == []


async def test_every_event_is_in_the_published_schema(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    async with control_api(tmp_path, api, models) as control:
        schema = (await control.client.get("/events/schema.json")).json()
        missing = await control.client.get("/conversations/telegram:1:2/events")
    assert set(schema["discriminator"]["mapping"]) == set(types())
    assert (missing.status_code, missing.json()["code"]) == (404, "conversation_not_found")


@pytest.mark.parametrize("command", ["/new", "/stop", "/undo", "/compact"])
async def test_the_run_of_every_command_ends(tmp_path: Path, models: ModelServer, api: BotApi, command: str) -> None:
    models.respond(lambda _: Say("Hello."))
    async with control_api(tmp_path, api, models) as control, watching(control.client) as stream:
        await send(control.client, "hi")
        sent = await send(control.client, command, client_id="message-2", **{"as": "command"})
        ended = await stream.until("run.ended", where=lambda data: data["run"]["run"] == sent["run"])
    assert ended.data["run"]["state"] == "completed"
    assert ended.data["run"]["text"] == sent["result"]["text"]


async def test_a_client_that_comes_back_misses_nothing_before_a_new_conversation(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Hello."))
    async with control_api(tmp_path, api, models) as control:
        async with watching(control.client) as stream:
            sent = await send(control.client, "hi")
            await stream.until("message")
            place = stream.last_id
            await stream.until("run.ended")
            last = await send(control.client, "/new", client_id="message-2")
            await stream.until("run.ended")
        async with watching(control.client, after=place) as again:
            for _ in range(len(stream.events) - [event.id for event in stream.events].index(place) - 1):
                await again.next()
        async with watching(control.client, after=place) as erased:
            assert (await control.client.delete("/conversations/web:local:one")).status_code == 200
            await erased.until("conversation.changed", where=lambda data: data["change"] == "deleted")
        async with watching(control.client, after=place) as later:
            await later.until("conversation.changed")
    ended = [event.data["run"]["run"] for event in again.events if event.type == "run.ended"]
    assert ended == [sent["run"], last["run"]]
    assert [event.raw for event in again.events[1:]] == [
        event.raw for event in stream.events[[event.id for event in stream.events].index(place) + 1 :]
    ]
    assert later.types == ["ping", "conversation.changed"]

"""Webhooks, to a strict local receiver."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.api.follower import Follower, Listener
from gateway.api.webhooks import MAX_WAITING, Webhook, Webhooks, signature
from gateway.app import Gateway
from gateway.lifecycle.connectors import StoredConnectors, always
from tests.api.conftest import Api, control_api
from tests.gateway.stage import write_settings
from tests.gateway.test_kill import process
from tests.servers.models import ModelServer, Say
from tests.servers.telegram import BotApi
from tests.servers.webhooks import WebhookServer

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

SETTINGS = """
[[webhooks]]
url = "{url}"
secret = "{secret}"
events = ["run.ended", "message"]
"""


class CountedFollower(Follower):
    """Says how many listen."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway)
        self.listening = asyncio.Semaphore(0)

    @contextmanager
    def listen(self, listener: Listener, missed: Callable[[], None]) -> Iterator[None]:
        with super().listen(listener, missed):
            self.listening.release()
            yield


@asynccontextmanager
async def telling(
    control: Api, *hooks: Webhook, max_waiting: int = MAX_WAITING, is_alive: Callable[[], bool] = always
) -> AsyncIterator[None]:
    """The gateway tells these webhooks, with short pauses, while others take it for alive."""
    follower = CountedFollower(control.built.gateway)
    webhooks = Webhooks(
        control.built.gateway,
        StoredConnectors(control.built.gateway.store, is_alive=is_alive, interval=0.05),
        follower,
        follower,
        hooks,
        since=datetime.now(UTC),
        first_pause=0.01,
        max_waiting=max_waiting,
    )
    running = [asyncio.create_task(follower.run()), asyncio.create_task(webhooks.run())]
    try:
        # What happens before a webhook listens is not told, except for ends of runs.
        for _ in hooks:
            await follower.listening.acquire()
        await follower.started()
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def to(server: WebhookServer, *events: str, conversations: tuple[str, ...] | None = None) -> Webhook:
    return Webhook(server.url, SECRET, frozenset(events), conversations)


def test_the_signature_is_that_of_the_specification() -> None:
    """The example of https://www.standardwebhooks.com."""
    body = b'{"test": 2432232314}'
    signed = signature(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body)
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_events_are_told_in_order_and_signed(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.respond(lambda _: Say("Hello."))
    async with WebhookServer(SECRET) as server:
        more = SETTINGS.format(url=server.url, secret=SECRET)
        async with control_api(tmp_path, api, models, more=more) as control:
            await control.client.get("/conversations")
            ann = api.private(7, "Ann")
            await ann.say("hi")
            id, ended = await server.next("run.ended")
    assert server.refusals == []
    assert [body["type"] for _, body in server.taken] == ["message", "run.ended"]
    assert server.taken[0][1]["data"]["message"]["text"] == "hi"
    run = ended["data"]["run"]
    assert (run["state"], ended["data"]["conversation"]) == ("completed", "telegram:123456:7")
    assert id == f"run.ended-{run['run']}"


@pytest.mark.parametrize("status", [500, 429, 404])
async def test_an_event_is_tried_again_with_the_same_id(
    tmp_path: Path, models: ModelServer, api: BotApi, status: int
) -> None:
    models.respond(lambda _: Say("Hello."))
    async with (
        WebhookServer(SECRET) as server,
        control_api(tmp_path, api, models) as control,
        telling(control, to(server, "run.ended")),
    ):
        server.answer(status, status)
        await api.private(7, "Ann").say("hi")
        id, _ = await server.next("run.ended")
    assert server.seen == [id, id, id]


async def test_an_event_is_not_tried_again_while_another_worker_may_send_it(
    tmp_path: Path, models: ModelServer, api: BotApi, caplog: pytest.LogCaptureFixture
) -> None:
    is_alive = True
    caplog.set_level(logging.INFO, "gateway.lifecycle.connectors")
    async with (
        WebhookServer(SECRET) as server,
        control_api(tmp_path, api, models) as control,
        telling(control, to(server, "message"), is_alive=lambda: is_alive),
    ):
        server.answer(always=503)
        await api.private(7, "Ann").say("hi")
        await server.seen_at_least(1)
        is_alive = False
        async with asyncio.timeout(20):
            while "this one waits for its turn" not in caplog.text:  # noqa: ASYNC110 - a log has no event
                await asyncio.sleep(0.01)
        seen = len(server.seen)
        server.answer(always=204)
        assert server.taken == []
        is_alive = True
        await server.next("message")
    assert len(server.seen) == seen + 1


async def test_an_event_that_is_always_refused_does_not_hold_up_the_next(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    async with (
        WebhookServer(SECRET) as server,
        control_api(tmp_path, api, models) as control,
        telling(control, to(server, "message")),
    ):
        server.answer(400, 400, 400, 400, 400)
        ann = api.private(7, "Ann")
        await ann.say("one")
        await ann.say("two")
        _, body = await server.next("message")
    assert body["data"]["message"]["text"] == "two"


async def test_a_server_that_is_gone_is_told_nothing_more(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    async with (
        WebhookServer(SECRET) as gone,
        WebhookServer(SECRET) as other,
        control_api(tmp_path, api, models) as control,
        telling(control, to(gone, "message"), to(other, "message")),
    ):
        gone.answer(always=410)
        ann = api.private(7, "Ann")
        await ann.say("one")
        await gone.seen_at_least(1)
        await ann.say("two")
        await other.seen_at_least(2)
    assert len(gone.seen) == 1


async def test_ends_of_runs_are_told_in_order_however_many_wait_for_the_server(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Hello."))
    async with (
        WebhookServer(SECRET) as server,
        control_api(tmp_path, api, models) as control,
        telling(control, to(server, "run.ended"), max_waiting=2),
    ):
        server.answer(always=503)
        runs = []
        for number in range(6):
            body = {"client_id": f"message-{number}", "text": "hi"}
            sent = await control.client.post("/conversations/web:local:many/messages?wait=30", json=body)
            runs.append(sent.json()["run"])
        await server.seen_at_least(1)
        server.answer()
        await server.taken_at_least(6)
    assert [body["data"]["run"]["run"] for _, body in server.taken] == runs


async def test_only_the_wanted_conversations_are_told(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    async with (
        WebhookServer(SECRET) as server,
        control_api(tmp_path, api, models) as control,
        telling(control, to(server, "message", conversations=("*:8",))),
    ):
        await api.private(7, "Ann").say("for nobody else")
        await api.private(8, "Bob").say(f"for the tickets: {api.token}")
        _, body = await server.next("message")
    assert body["data"]["message"]["sender"]["name"] == "Bob"
    assert body["data"]["message"]["text"] == "for the tickets: [secret]", "secrets leave the gateway in no event"
    assert len(server.seen) == 1


@pytest.mark.crash
async def test_the_end_of_a_run_is_told_after_a_kill(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.respond(lambda _: Say("Hello."))
    async with WebhookServer(SECRET) as server:
        settings = write_settings(tmp_path, api, models, more=SETTINGS.format(url=server.url, secret=SECRET))
        ann = api.private(7, "Ann")
        async with process(settings) as running:
            await ann.say("first")
            first, _ = await server.next("run.ended")
            server.answer(always=503)
            await ann.say("second")
            await ann.until(lambda ann: ann.texts == ["Hello.", "Hello."])
            running.send_signal(signal.SIGKILL)
            await running.wait()
        server.answer(always=204)
        async with process(settings):
            second, ended = await server.next("run.ended", besides=first)
    assert ended["data"]["run"]["state"] == "completed"
    assert second != first
    assert server.refusals == []

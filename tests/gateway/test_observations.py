"""What hooks at on_event see of the gateway: messages in, replies out, channels in trouble, models that fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.agent import Agent
from agent.hook import Deny, HookContext, MessageIn
from agent.hooks.chain import HookChain, RegisteredHook
from agent.hooks.python import PythonHook
from agent.model import Model, ModelError
from agent.models.fallback import CoolDowns, FallbackModel, NamedModel
from agent.models.retry import RetryingModel
from agent.models.scripted import ScriptedModel
from agent.testing import MemoryMedia
from channels.channel import ChannelRejected, CommandHelp, Ledger, ServerFailed, Undeliverable, Unreachable
from channels.memory import MemoryChannel
from channels.message import Deliver, FileRef, InboundMessage
from channels.reply import Reply
from gateway.app import GatewayOptions
from gateway.lifecycle.supervision import listen
from gateway.observations import Observations
from gateway.outbound.delivery import RetryLimits
from tests.gateway.play import Play, inbound, playing

SECRET = "hush"


class Observer:
    """A hook that keeps what it sees."""

    def __init__(self) -> None:
        self._seen: list[tuple[HookContext, Mapping[str, Any]]] = []
        self._changed = asyncio.Condition()

    async def on_event(self, context: HookContext, event: Any) -> None:
        async with self._changed:
            self._seen.append((context, event))
            self._changed.notify_all()

    def all(self, kind: str) -> list[tuple[HookContext, Mapping[str, Any]]]:
        return [each for each in self._seen if each[1]["event"] == kind]

    async def saw(self, kind: str, count: int = 1) -> list[Mapping[str, Any]]:
        """The first events of the kind, once there are so many."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.all(kind)) >= count)
        return [event for _, event in self.all(kind)[:count]]


class RefusingDoor:
    async def on_message(self, context: HookContext, message: MessageIn) -> Deny | None:
        return Deny(f"no {SECRET}") if "bad" in message.text else None


class TroubledChannel(MemoryChannel):
    """Raises these errors, one after the other, before it shows or listens."""

    def __init__(self, *, showing: tuple[Exception, ...] = (), listening: tuple[Exception, ...] = ()) -> None:
        super().__init__()
        self._showing = list(showing)
        self._listening = list(listening)

    async def show(self, reply: Reply, ledger: Ledger) -> None:
        if reply.done and self._showing:
            raise self._showing.pop(0)
        await super().show(reply, ledger)

    async def listen(self, deliver: Deliver, commands: tuple[CommandHelp, ...]) -> None:
        if self._listening:
            raise self._listening.pop(0)
        await super().listen(deliver, commands)


async def unheard(message: InboundMessage) -> None:
    """Nobody says anything."""


@asynccontextmanager
async def watched(
    folder: Path, model: Model, channel: MemoryChannel | None = None, **parts: Any
) -> AsyncIterator[tuple[Play, Observer]]:
    observer, door = Observer(), RefusingDoor()
    hooks = [
        RegisteredHook("watch", PythonHook({"on_event": observer.on_event}), ("on_event",)),
        RegisteredHook("door", PythonHook({"on_message": door.on_message}), ("on_message",)),
    ]
    async with HookChain(hooks) as chain:
        agent = Agent(model, MemoryMedia(), folder, hooks=chain)
        mask = {"mask": lambda text: text.replace(SECRET, "***")}
        async with playing(folder, model, agent=lambda _: agent, channel=channel, hooks=chain, **mask, **parts) as play:
            yield play, observer


async def test_observers_see_what_comes_in_without_its_words(tmp_path: Path) -> None:
    async with watched(tmp_path, ScriptedModel("Fine.", "Finer.")) as (play, observer):
        cat = FileRef("cat", "cat.png", size=700)
        play.channel.files["cat"] = b"PNG"
        await play.deliver(inbound("hello", id="m", files=(cat,)))
        await play.until_idle()
        await play.deliver(inbound("hello!!", id="m", kind="edited"), inbound("/status"), inbound("bad"))
        first, *others = await observer.saw("MessageReceived", 4)
        ((context, _), *_) = observer.all("MessageReceived")
    assert first == {
        "event": "MessageReceived",
        "id": 1,
        "kind": "new",
        "command": "",
        "characters": 5,
        "files": 1,
        "bytes": 700,
        "state": "waiting",
        "reason": "",
    }
    assert (context.session, context.channel, context.sender, context.sender_id) == (
        "memory/me/chat",
        "memory",
        "Ann",
        "7",
    )
    assert {(each["kind"], each["command"], each["characters"], each["state"]) for each in others} == {
        ("edited", "", 7, "waiting"),
        ("command", "status", 0, "waiting"),
        ("new", "", 3, "refused"),
    }
    assert "no ***" in {each["reason"] for each in others}


async def test_a_message_that_is_delivered_twice_is_observed_once(tmp_path: Path) -> None:
    async with watched(tmp_path, ScriptedModel("One.", "Two.")) as (play, observer):
        again = inbound("hello")
        await play.deliver(again)
        await play.deliver(again)
        await play.reply("One.")
        await play.say("two")
        await observer.saw("MessageReceived", 2)
        await play.reply("Two.")
        assert len(observer.all("MessageReceived")) == 2


async def test_observers_see_that_a_reply_is_shown(tmp_path: Path) -> None:
    async with watched(tmp_path, ScriptedModel("Fine.")) as (play, observer):
        await play.say("hello")
        (seen,) = await observer.saw("ReplyDelivered")
        ((context, _),) = observer.all("ReplyDelivered")
        reply = await play.reply("Fine.")
    assert seen == {
        "event": "ReplyDelivered",
        "reply": reply.id,
        "outcome": "shown",
        "reasons": [],
        "segments": 1,
        "waits": False,
    }
    assert (context.session, context.channel, context.run_id) == ("memory/me/chat", "memory", reply.id)


@pytest.mark.parametrize("error", [Unreachable(f"no line, {SECRET}"), ServerFailed(f"no line, {SECRET}")])
async def test_observers_see_that_a_reply_is_late_and_why(tmp_path: Path, error: Exception) -> None:
    limits = GatewayOptions(delivery=RetryLimits(max_backoff=0.01))
    channel = TroubledChannel(showing=(error,))
    async with watched(tmp_path, ScriptedModel("Fine."), channel, options=limits) as (play, observer):
        await play.say("hello")
        (late,) = await observer.saw("ReplyDelayed")
        (shown,) = await observer.saw("ReplyDelivered")
    assert (late["reply"], late["reason"]) == (shown["reply"], "no line, ***")
    assert shown["outcome"] == "shown"


async def test_observers_see_that_a_reply_cannot_be_delivered_and_why(tmp_path: Path) -> None:
    channel = TroubledChannel(showing=(Undeliverable(f"blocked, {SECRET}"),))
    async with watched(tmp_path, ScriptedModel("Fine."), channel) as (play, observer):
        await play.say("hello")
        (seen,) = await observer.saw("ReplyDelivered")
    assert (seen["outcome"], seen["reasons"]) == ("undeliverable", ["blocked, ***"])


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (ChannelRejected(f"the token {SECRET} is revoked"), "the token *** is revoked"),
        (ValueError("a fault"), "failed and restarts; the log has the details"),
    ],
)
async def test_observers_see_that_a_channel_fails(error: Exception, problem: str) -> None:
    observer = Observer()
    watching = RegisteredHook("watch", PythonHook({"on_event": observer.on_event}), ("on_event",))
    async with asyncio.timeout(60), HookChain([watching]) as chain:
        observations = Observations(chain, lambda text: text.replace(SECRET, "***"))
        listening = asyncio.create_task(
            listen(TroubledChannel(listening=(error,)), unheard, lambda: (), {}, observations)
        )
        (seen,) = await observer.saw("ChannelFailed")
        listening.cancel()
        await asyncio.wait((listening,))
    assert (observer.all("ChannelFailed")[0][0].channel, seen["problem"]) == ("memory", problem)
    assert seen["seconds"] > 0


async def test_observers_see_which_model_fails_and_which_is_asked_next(tmp_path: Path) -> None:
    async def no_pause(seconds: float) -> None:
        """Nothing to wait for here."""

    busy = ScriptedModel(ModelError("overloaded", "x"), ModelError("billing", "y"))
    chain = [NamedModel("a:one", RetryingModel(busy, sleep=no_pause)), NamedModel("b:two", ScriptedModel("Fine."))]
    async with watched(tmp_path, FallbackModel(chain, CoolDowns())) as (play, observer):
        await play.say("hello")
        await play.reply("Fine.")
        again, instead = await observer.saw("Waiting", 2)
    assert (again["model"], again["error"], again["instead"]) == ("a:one", "overloaded", "")
    assert again["seconds"] > 0
    assert (instead["model"], instead["error"], instead["instead"]) == ("a:one", "billing", "b:two")

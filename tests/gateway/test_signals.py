"""Metrics and health: what a scraper and a load balancer are told of a real gateway."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sqlite3
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.agent import Agent
from agent.hook import Deny, HookContext, MessageIn
from agent.hook import ToolCall as CallUnderReview
from agent.hooks.chain import HookChain, RegisteredHook
from agent.hooks.python import PythonHook
from agent.log import Call
from agent.model import Model, ModelError
from agent.models.fallback import CoolDowns, FallbackModel, NamedModel
from agent.models.measuring import MeasuredModel
from agent.models.retry import RetryingModel
from agent.models.scripted import ScriptedModel
from agent.testing import MemoryMedia
from agent.tool import Tool, ToolContext, tool
from channels.channel import ChannelRejected, RetryLater, Undeliverable
from channels.memory import MemoryChannel
from config.mcp import McpSettings
from gateway.app import GatewayOptions
from gateway.assembly.build import Built
from gateway.assembly.signals import ToolLabels
from gateway.bus import LocalBus
from gateway.outbound.delivery import RetryLimits
from gateway.signals.exposition import Exposition
from gateway.signals.metrics import Metrics, State
from gateway.signals.readiness import Readiness
from gateway.signals.signal import Signals
from gateway.store.records import ApiKeyScope
from tests.gateway.play import Play, inbound, playing, until
from tests.gateway.stage import gateway, write_settings
from tests.gateway.test_observations import TroubledChannel
from tests.servers.local import free_port
from tests.servers.models import Call as ServerCall
from tests.servers.models import Fail, Gate, ModelServer, Say
from tests.servers.telegram import BotApi

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy" / "prometheus"

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Scrape:
    """What a scraper has read: a value by its name and labels."""

    def __init__(self, text: str) -> None:
        self.families = list(text_string_to_metric_families(text))
        self._samples: Samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self.families
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float | None:
        return self._samples.get((f"interject_{name}", tuple(sorted(labels.items()))))


class Watched:
    """A play whose metrics are read as a scraper reads them."""

    def __init__(self, play: Play, metrics: Metrics) -> None:
        self.play = play
        self._expose = Exposition(metrics.all)

    def value(self, name: str, **labels: str) -> float | None:
        return Scrape(self._expose().decode()).value(name, **labels)

    async def counted(self, name: str, **labels: str) -> float:
        """The value, once there is one."""
        await until(lambda: self.value(name, **labels))
        return self.value(name, **labels) or 0.0


@asynccontextmanager
async def measured(
    folder: Path,
    model: Model,
    *tools: Tool,
    hooks: tuple[RegisteredHook, ...] = (),
    channel: MemoryChannel | None = None,
    **parts: Any,
) -> AsyncIterator[Watched]:
    metrics = Metrics()
    tell = Signals(metrics)
    async with HookChain(hooks, tell) as chain:
        agent = Agent(MeasuredModel(model, "a:one", tell), MemoryMedia(), folder, tools, hooks=chain)
        async with playing(
            folder,
            model,
            agent=lambda _: agent,
            channel=channel,
            hooks=chain,
            bus=LocalBus(watch=tell),
            watch=tell,
            **parts,
        ) as play:
            yield Watched(play, metrics)


@tool(effect="read")
async def look(context: ToolContext) -> str:
    """Looks."""
    return "seen"


async def test_a_message_and_its_turn_are_counted(tmp_path: Path) -> None:
    model = ScriptedModel([Call("1", "look", "{}")], "Fine.")
    async with measured(tmp_path, model, look) as watched:
        await watched.play.say("hello")
        await watched.play.reply("Fine.")
        await watched.play.until_idle()
        assert watched.value("messages_total", channel="memory", kind="new", outcome="accepted") == 1
        assert watched.value("queue_wait_seconds_count", channel="memory") == 1
        assert watched.value("turns_total", channel="memory", kind="own", outcome="completed") == 1
        assert watched.value("turn_seconds_count", channel="memory", kind="own") == 1
        assert watched.value("model_calls_total", model="a:one", error="") == 2
        assert watched.value("model_first_token_seconds_count", model="a:one") == 1
        assert watched.value("tool_calls_total", tool="look", outcome="done") == 1
        assert watched.value("tool_call_seconds_count", tool="look") == 1
        assert watched.value("replies_total", channel="memory", outcome="shown") == 1
        assert watched.value("steering_seconds_count", channel="memory") is None


async def test_a_message_that_a_running_turn_reads_counts_as_steering(tmp_path: Path) -> None:
    model = ScriptedModel(["I will ", asyncio.Event()], "Yes.")
    async with measured(tmp_path, model) as watched:
        await watched.play.say("go")
        await watched.play.reply("I will", done=False)
        await watched.play.say("leave it")
        await watched.play.reply("Yes.")
        assert watched.value("queue_wait_seconds_count", channel="memory") == 1
        assert watched.value("steering_seconds_count", channel="memory") == 1
        seconds = watched.value("steering_seconds_sum", channel="memory")
        assert seconds is not None
        assert 0 < seconds < 60
        assert watched.value("model_calls_total", model="a:one", error="cancelled") == 1


async def test_failures_of_models_are_counted_by_their_class(tmp_path: Path) -> None:
    async def no_pause(seconds: float) -> None:
        """Nothing to wait for here."""

    metrics = Metrics()
    tell = Signals(metrics)
    busy = MeasuredModel(ScriptedModel(ModelError("overloaded", "x"), ModelError("billing", "y")), "a:one", tell)
    chain = [
        NamedModel("a:one", RetryingModel(busy, sleep=no_pause)),
        NamedModel("b:two", MeasuredModel(ScriptedModel("Fine."), "b:two", tell)),
    ]
    async with playing(tmp_path, FallbackModel(chain, CoolDowns()), bus=LocalBus(watch=tell)) as play:
        watched = Watched(play, metrics)
        await play.say("hello")
        await play.reply("Fine.")
        assert watched.value("model_calls_total", model="a:one", error="overloaded") == 1
        assert watched.value("model_calls_total", model="a:one", error="billing") == 1
        assert watched.value("model_calls_total", model="b:two", error="") == 1
        assert watched.value("model_retries_total", model="a:one", error="overloaded") == 1
        assert watched.value("model_fallbacks_total", model="a:one", error="billing") == 1


async def test_approvals_are_counted_from_the_request_to_the_decision(tmp_path: Path) -> None:
    model = ScriptedModel([Call("1", "look", "{}")], "Done.")
    async with measured(tmp_path, model, replace(look, approval="always")) as watched:
        await watched.play.say("look")
        assert await watched.counted("approvals_requested_total", subject="call") == 1
        await watched.play.channel.until(lambda channel: any(reply.parked for reply in channel.replies.values()))
        await watched.play.say("yes")
        await watched.play.reply("Done.")
        assert watched.value("approvals_decided_total", subject="call", decision="allowed") == 1
        assert watched.value("approval_wait_seconds_count", subject="call") == 1
        assert watched.value("tool_calls_total", tool="look", outcome="done") == 1


class Guard:
    async def on_message(self, context: HookContext, message: MessageIn) -> Deny | None:
        return Deny("no") if "bad" in message.text else None

    async def before_tool(self, context: HookContext, call: CallUnderReview) -> None:
        raise ValueError("broken")


async def test_hooks_are_counted_by_what_they_decided(tmp_path: Path) -> None:
    guard = Guard()
    points = {"on_message": guard.on_message, "before_tool": guard.before_tool}
    hook = RegisteredHook("guard", PythonHook(points), ("on_message", "before_tool"))
    model = ScriptedModel([Call("1", "look", "{}")], "Fine.")
    async with measured(tmp_path, model, look, hooks=(hook,)) as watched:
        await watched.play.deliver(inbound("bad"), inbound("good"))
        await watched.play.reply("Fine.")
        counts = {
            (point, outcome): watched.value("hook_calls_total", hook="guard", point=point, outcome=outcome)
            for point in points
            for outcome in ("continue", "deny", "failed")
        }
        assert {key: value for key, value in counts.items() if value} == {
            ("on_message", "deny"): 1,
            ("on_message", "continue"): 1,
            ("before_tool", "failed"): 1,
        }
        assert watched.value("messages_total", channel="memory", kind="new", outcome="refused") == 1


@pytest.mark.parametrize(
    ("error", "name", "labels"),
    [
        (RetryLater(0.01), "rate_limited_total", {}),
        (RetryLater(0.01), "reply_delays_total", {}),
        (Undeliverable("blocked"), "replies_total", {"outcome": "undeliverable"}),
    ],
)
async def test_trouble_with_delivery_is_counted(
    tmp_path: Path, error: Exception, name: str, labels: dict[str, str]
) -> None:
    limits = GatewayOptions(delivery=RetryLimits(max_backoff=0.01))
    channel = TroubledChannel(showing=(error,))
    async with measured(tmp_path, ScriptedModel("Fine."), channel=channel, options=limits) as watched:
        await watched.play.say("hello")
        assert await watched.counted(name, channel="memory", **labels) == 1


async def test_tools_have_no_more_labels_than_the_settings_allow() -> None:
    servers: dict[str, McpSettings | None] = {"git": None, "git_lab": None}
    labels = ToolLabels(servers)
    labels.own = (look,)
    names = ["shell", "look", "git_status", "git_lab_issues", "invented", "another"]
    assert [labels(name) for name in names] == ["shell", "look", "mcp:git", "mcp:git_lab", "other", "other"]


async def test_what_is_remembered_of_messages_and_turns_is_forgotten(tmp_path: Path) -> None:
    metrics = Metrics()
    tell = Signals(metrics)
    async with playing(tmp_path, ScriptedModel(), bus=LocalBus(watch=tell), watch=tell) as play:
        for number in range(3):
            await play.say(f"hello {number}")
            await play.reply(f"You said: hello {number}")
        await play.until_idle()
    assert metrics.remembered == 0


async def test_a_watcher_that_fails_disturbs_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def broken(signal: object) -> None:
        raise ValueError("broken")

    metrics = Metrics()
    tell = Signals(broken, metrics)
    async with playing(tmp_path, ScriptedModel("Fine."), bus=LocalBus(watch=tell), watch=tell) as play:
        await play.say("hello")
        await play.reply("Fine.")
        assert Watched(play, metrics).value("turns_total", channel="memory", kind="own", outcome="completed") == 1
    kinds = [record.args for record in caplog.records if record.name == "gateway.signals.signal"]
    assert len(kinds) == len(set(kinds)) > 1


# --- over HTTP ---


class Operator:
    """Whoever runs the gateway, beside it."""

    def __init__(self, built: Built, client: httpx.AsyncClient, token: str, home: Path) -> None:
        self.built = built
        self.client = client
        self.token = token
        self._home = home

    async def scrape(self) -> Scrape:
        answer = await self.client.get("/metrics", headers={"Authorization": f"Bearer {self.token}"})
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        return Scrape(answer.text)

    async def new_key(self, scope: ApiKeyScope, conversations: tuple[str, ...] | None = None) -> str:
        """The secret of a new key of the API."""
        gateway = self.built.gateway
        made = await gateway.store.create_api_key("prometheus", scope, conversations=conversations, by="operator")
        gateway.keys.forget()
        return made.secret

    def sql(self, statement: str) -> None:
        with closing(sqlite3.connect(self._home / "interject.db")) as connection, connection:
            connection.execute(statement)


@asynccontextmanager
async def operated(
    folder: Path, api: BotApi, models: ModelServer, *, more: str = "", model: str = "openai:test"
) -> AsyncIterator[Operator]:
    settings = write_settings(folder, api, models, model=model, more=more)
    async with gateway(settings) as built:
        assert built.link is not None
        link = urlsplit(built.link)
        async with httpx.AsyncClient(base_url=f"http://{link.netloc}", trust_env=False, timeout=60) as client:
            yield Operator(built, client, parse_qs(link.query)["token"][0], folder / "home")


async def test_a_scraper_reads_what_went_on(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    gate = asyncio.Event()
    looking = [Say("Looking. "), ServerCall("todos", {"items": []})]
    models.script(looking, Fail(529), [Say("Do"), Gate(gate), Say("ne.")])
    async with operated(tmp_path, api, models) as operator:
        ann = api.private(7, "Ann")
        await ann.say("look")
        await ann.hear("Do")
        during = await operator.scrape()
        gate.set()
        await ann.until(lambda chat: chat.texts[-1].endswith("Done."))
        await until(lambda: not operator.built.gateway.delivery.waiting())
        after = await operator.scrape()
    assert during.value("turns_running") == 1
    assert during.value("channel_up", channel="telegram") == 1
    assert during.value("channel_connections", channel="telegram") == 1
    assert during.value("inbox_messages", channel="telegram") == 0
    assert after.value("turns_running") == 0
    assert after.value("turns_total", channel="telegram", kind="own", outcome="completed") == 1
    assert after.value("model_calls_total", model="openai:test", error="") == 2
    assert after.value("model_calls_total", model="openai:test", error="overloaded") == 1
    assert (after.value("model_tokens_total", model="openai:test", kind="output") or 0) > 0
    assert (after.value("store_commit_seconds_count") or 0) > 3
    names = {family.name for family in after.families}
    assert {"process_resident_memory_bytes", "python_info", "interject_build_info"} <= names


async def test_turns_of_a_worker_that_is_gone_are_counted_and_logged_by_who_goes_on_with_them(
    tmp_path: Path, models: ModelServer, api: BotApi, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    never = asyncio.Event()
    models.script([Say("Well"), Gate(never)], [Say("Well"), Gate(never)], Say("Done."), Say("Done."))
    people = [api.private(number, f"P{number}") for number in (7, 8)]
    async with operated(tmp_path, api, models) as operator:
        former = operator.built.gateway.store.worker
        for person in people:
            await person.say("go")
            await person.hear("Well")
        before = await operator.scrape()
    async with operated(tmp_path, api, models) as operator:
        for person in people:
            await person.until(lambda chat: any("Done." in text for text in chat.texts))
        after = await operator.scrape()
    assert (before.value("turns_adopted_total") or 0, after.value("turns_adopted_total")) == (0, 2)
    assert after.value("lease_valid") is None, "on SQLite there is none"
    (logged,) = [record.getMessage() for record in caplog.records if "took over" in record.message]
    assert re.fullmatch(rf"took over 2 turns of worker {former}: \w{{32}}, \w{{32}}", logged)


async def test_metrics_need_the_token_unless_they_are_public(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    async with operated(tmp_path, api, models) as operator:
        without = await operator.client.get("/metrics")
        wrong = await operator.client.get("/metrics", headers={"Authorization": "Bearer wrong"})
        assert (without.status_code, wrong.status_code) == (401, 401)
        assert "interject_" not in without.text + wrong.text
        assert (await operator.client.post("/metrics")).status_code == 405
        assert (await operator.client.get("/metrics/else")).status_code == 404
    async with operated(tmp_path, api, models, more="[metrics]\npublic = true\n") as operator:
        assert "interject_turns_running 0" in (await operator.client.get("/metrics")).text


async def test_keys_that_see_everything_read_metrics(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    kinds: dict[tuple[ApiKeyScope, tuple[str, ...] | None], int] = {
        ("operate", None): 200,
        ("admin", None): 200,
        ("chat", None): 401,
        ("operate", ("telegram:*",)): 401,
    }
    async with operated(tmp_path, api, models) as operator:
        found = {}
        for scope, conversations in kinds:
            secret = await operator.new_key(scope, conversations)
            answer = await operator.client.get("/metrics", headers={"Authorization": f"Bearer {secret}"})
            found[scope, conversations] = answer.status_code
    assert found == kinds


async def test_a_real_prometheus_scrapes_it_by_the_example_of_a_configuration(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed: apt-get install prometheus")
    async with operated(tmp_path, api, models) as operator:
        key = tmp_path / "key"
        key.write_text(await operator.new_key("operate"))
        text = (DEPLOY / "prometheus.yml").read_text()
        text = text.replace("/etc/prometheus/interject-key", str(key)).replace("alerts.yml", str(DEPLOY / "alerts.yml"))
        text = text.replace("127.0.0.1:8321", operator.client.base_url.netloc.decode()).replace("15s", "1s")
        (tmp_path / "prometheus.yml").write_text(text)
        port = free_port()
        running = await asyncio.create_subprocess_exec(
            program,
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            stdout=DEVNULL,
            stderr=DEVNULL,
        )
        try:
            async with asyncio.timeout(60):
                found = await queried(f"http://127.0.0.1:{port}", 'interject_channel_up{channel="telegram"}')
        finally:
            running.kill()
            await running.wait()
    assert found["metric"]["job"] == "interject"
    assert found["value"][1] == "1"


async def queried(prometheus: str, expression: str) -> dict[str, Any]:
    """The one series of the expression, once there is one."""
    async with httpx.AsyncClient(base_url=prometheus, trust_env=False) as client:
        while True:
            with suppress(httpx.TransportError):
                answer = await client.get("/api/v1/query", params={"query": expression})
                if answer.status_code == 200 and (found := answer.json()["data"]["result"]):
                    (series,) = found
                    return dict(series)
            await asyncio.sleep(0.05)


async def test_a_gateway_whose_store_does_not_write_is_alive_but_not_ready(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    async with operated(tmp_path, api, models) as operator:
        ready = await operator.client.get("/readyz")
        assert (ready.status_code, ready.json()) == (200, {"ready": True, "problems": {}})
        operator.sql(
            "CREATE TRIGGER full BEFORE UPDATE ON alembic_version BEGIN SELECT RAISE(ABORT, 'secret path'); END"
        )
        async with asyncio.timeout(30):
            while (ready := await operator.client.get("/readyz")).status_code == 200:  # noqa: ASYNC110 - a server is asked
                await asyncio.sleep(0.05)
        assert ready.status_code == 503
        assert ready.json() == {"ready": False, "problems": {"store": "does not write; the log has the reason"}}
        alive = await operator.client.get("/healthz")
        assert (alive.status_code, alive.json()) == (200, {"status": "alive"})
        operator.sql("DROP TRIGGER full")
        async with asyncio.timeout(30):
            while (await operator.client.get("/readyz")).status_code == 503:  # noqa: ASYNC110 - a server is asked
                await asyncio.sleep(0.05)


ASKED_FOR_HEALTH = """
import asyncio, json, sys
import http.client
from pathlib import Path
from config.load import load
from gateway.assembly.build import build

def ask(link):
    connection = http.client.HTTPConnection(link.split("/")[2])
    found = []
    for method, path in (("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics"), ("POST", "/telegram/telegram/")):
        connection.request(method, path)
        answer = connection.getresponse()
        answer.read()
        found.append(answer.status)
    return found

async def main(home):
    settings = home.parent / "interject.toml"
    async with build(load(settings, {"INTERJECT_WEB__PORT": "0"}, home)) as built:
        running = asyncio.create_task(built.gateway.run(*built.services))
        found = await asyncio.to_thread(ask, built.link)
        running.cancel()
        await asyncio.wait([running])
    print(json.dumps([found, sorted(set(sys.modules) & {"uvicorn", "fastapi", "starlette", "prometheus_client"})]))

asyncio.run(main(Path(sys.argv[1])))
"""


BY_WEBHOOK = """\
[channels.telegram]
token = "123456:test-token"
api_url = "http://127.0.0.1:9"
webhook_url = "https://bot.example.org"
allow = ["7"]
"""


async def test_neither_who_asks_for_health_nor_a_platform_that_posts_loads_the_site(tmp_path: Path) -> None:
    (tmp_path / "interject.toml").write_text(BY_WEBHOOK)
    asked = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ASKED_FOR_HEALTH, tmp_path / "home", cwd=ROOT, stdout=PIPE, stderr=PIPE
    )
    out, err = await asyncio.wait_for(asked.communicate(), 60)
    assert json.loads(out) == [[200, 200, 401, 401], ["starlette", "uvicorn"]], err.decode()


async def test_while_the_gateway_stops_it_is_not_ready(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    gate = asyncio.Event()
    models.script([Say("Wait"), Gate(gate), Say(".")])
    settings = write_settings(tmp_path, api, models)
    settings.write_text(settings.read_text().replace("shutdown_grace = 0", "shutdown_grace = 30"))
    async with AsyncExitStack() as stack:
        built = await stack.enter_async_context(gateway(settings))
        assert built.link is not None
        async with httpx.AsyncClient(base_url=built.link.partition("/?")[0], trust_env=False, timeout=60) as client:
            ann = api.private(7, "Ann")
            await ann.say("hi")
            await ann.hear("Wait")
            assert (await client.get("/readyz")).status_code == 200
            stopping = asyncio.create_task(stack.pop_all().aclose())
            async with asyncio.timeout(30):
                while (ready := await client.get("/readyz")).status_code == 200:  # noqa: ASYNC110 - a server is asked
                    await asyncio.sleep(0.05)
            gate.set()
            await stopping
    assert (ready.status_code, ready.json()["problems"]) == (503, {"gateway": "is stopping"})


async def test_a_gateway_without_a_working_channel_is_not_ready(tmp_path: Path) -> None:
    channel = TroubledChannel()
    async with playing(tmp_path, ScriptedModel(), channel=channel) as play:
        readiness = Readiness(play.store.check_writing, play.gateway.channel_states, kept=0.0)
        assert await readiness() == {"gateway": "is starting"}
        running = asyncio.create_task(readiness.run())
        await asyncio.sleep(0)
        assert await readiness() == {}
        channel.problem = "the token is revoked"
        assert await readiness() == {"channels": "none is up; /status and the log say why"}
        channel.problem = ""
        running.cancel()
        await asyncio.wait((running,))
        assert await readiness() == {"gateway": "is stopping"}


async def test_a_channel_that_begins_again_is_down_meanwhile(tmp_path: Path) -> None:
    channel = TroubledChannel(listening=(ChannelRejected("wrong token"),))
    metrics = Metrics()
    async with playing(tmp_path, ScriptedModel(), channel=MemoryChannel("other")) as play:
        play.gateway.add(channel)
        states = play.gateway.channel_states()
        assert states == {"other": "", "memory": "does not listen"}
        metrics.sample(0.0, states)
        metrics.sample(0.0, {"other": "", "memory": ""})
    watched = Watched(play, metrics)
    assert watched.value("channel_reconnects_total", channel="memory") == 1
    assert watched.value("event_loop_delay_seconds_count") == 2


async def test_a_store_that_does_not_answer_is_told_in_the_metrics(tmp_path: Path) -> None:
    metrics = Metrics()
    metrics.set(State(2, 1, 3, {"web": "", "slack": "the token is revoked"}, None, "1.2.3"))
    scrape = Scrape(Exposition(metrics.all)().decode())
    assert scrape.value("store_up") == 0
    assert scrape.value("channel_up", channel="slack") == 0
    assert scrape.value("inbox_messages", channel="web") is None
    assert scrape.value("build_info", version="1.2.3") == 1

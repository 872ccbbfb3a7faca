"""MCP servers as toolsets: real servers over stdio, streamable HTTP and SSE, and servers that misbehave."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import which
from typing import Any, Literal

import pytest

from agent.mcp.listing import read_listing
from agent.mcp.names import tool_name
from agent.mcp.prompts import MAX_COMMAND, Prompt, PromptArgument, command_name
from agent.mcp.rules import RuleChanges, ToolRules, rules_of
from agent.mcp.schemas import BadSchema, usable_schema
from agent.mcp.server import McpServer, Policy, Timing
from agent.mcp.sources import HttpSource, ProcessSource
from agent.testing import MemoryMedia
from agent.tool import TOOL_NAME, Tool, ToolContext, ToolError
from agent.tool_result import ToolResult
from tests.servers.mcp_example import PIXEL, serve

ROOT = Path(__file__).parents[2]
Wire = Literal["stdio", "http", "sse"]
WIRES: tuple[Wire, ...] = ("stdio", "http", "sse")
QUICKLY = Timing(restart_delay=0.05, max_restart_delay=0.2)


class Calls:
    """Calls of a server's tools, by the server's own names, and what people are shown of them."""

    def __init__(self, server: McpServer) -> None:
        self.server = server
        self.media = MemoryMedia()
        self.shown: asyncio.Queue[str] = asyncio.Queue()

    def tools(self) -> dict[str, Tool]:
        return {tool.name.partition("_")[2]: tool for tool in self.server}

    async def call(self, tool: str, **arguments: Any) -> ToolResult:
        import json

        context = ToolContext(Path("unused"), self.media, self.shown.put)
        return await self.tools()[tool].call(context, json.dumps(arguments))

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not holds():  # noqa: ASYNC110 - another process has no events
                await asyncio.sleep(0.01)


@asynccontextmanager
async def over(
    wire: Wire, folder: Path, monkeypatch: pytest.MonkeyPatch, policy: Policy | None = None
) -> AsyncIterator[Calls]:
    """The example server, ready."""
    monkeypatch.setenv("MCP_RECORD", str(folder))
    if wire == "stdio":
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        source = ProcessSource("example", (sys.executable, "-m", "tests.servers.mcp_example"), environment)
        async with McpServer("example", source, policy, QUICKLY) as server:
            assert (await server.settled()).state == "running"
            yield Calls(server)
        return
    async with serve(sse=wire == "sse") as url, McpServer("example", HttpSource(url), policy, QUICKLY) as server:
        assert (await server.settled()).state == "running"
        yield Calls(server)


@asynccontextmanager
async def odd(kind: str, folder: Path, timing: Timing = QUICKLY) -> AsyncIterator[Calls]:
    """A server that misbehaves; not yet ready."""
    script = str(ROOT / "tests" / "servers" / "mcp_odd.py")
    async with McpServer(
        "odd", ProcessSource("odd", (sys.executable, script, str(folder), kind)), timing=timing
    ) as one:
        yield Calls(one)


def lines(folder: Path, name: str = "calls") -> list[str]:
    file = folder / name
    return file.read_text().splitlines() if file.exists() else []


# Every wire


@pytest.mark.parametrize("wire", WIRES)
async def test_a_server_is_used_and_a_cancelled_call_is_cancelled_there(
    wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with over(wire, tmp_path, monkeypatch) as example:
        assert (await example.call("add", a=1, b="2")).text == "3"
        assert (await example.call("fail")) == ToolResult("no such thing", failed=True)
        waiting = asyncio.create_task(example.call("wait"))
        assert await asyncio.wait_for(example.shown.get(), 30) == "25%: waiting"
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await example.until(lambda: "wait cancelled" in lines(tmp_path))
        assert (await example.call("add", a=2, b=2)).text == "4"
        (prompt,) = example.server.prompts
        assert (prompt.name, prompt.usage) == ("review", "<subject> [focus]")
        read = await example.call("prompt", name="review", arguments={"subject": "the door"})
        assert read.text == "Review the door, please."


async def test_pictures_files_and_resources_of_a_result_are_delivered_as_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with over("http", tmp_path, monkeypatch) as example:
        result = await example.call("picture")
        assert [(file.name, file.media_type) for file in result.attachments] == [
            ("picture.png", "image/png"),
            ("sound.wav", "audio/x-wav"),
            ("logo.png", "image/png"),
        ]
        assert [file.name for file in result.images] == ["picture.png", "logo.png"]
        assert await example.media.read(result.attachments[0]) == PIXEL
        assert result.text.splitlines() == [
            "here it is",
            "note://one:",
            "the text of a note",
            "[resource file:///logo.png (logo)]",
            "[resource note://two (two)]",
            "[picture.png is not valid base64]",
        ]
        assert (await example.call("list_resources")).text.splitlines() == [
            "note://two (two): The second note.",
            "file:///logo.png (logo): The logo.",
        ]
        assert (await example.call("read_resource", uri="note://two")).text == "note://two:\ntwo"
        with pytest.raises(ToolError, match="example: "):
            await example.call("read_resource", uri="note://three")


@pytest.mark.parametrize("wire", ["stdio", "http"])
async def test_a_tool_that_a_server_gets_later_is_there(
    wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with over(wire, tmp_path, monkeypatch) as example:
        before = example.tools()
        await example.call("grow")
        await example.until(lambda: "grown" in example.tools())
        assert (await example.call("grown")).text == "grown"
        assert example.tools().keys() - before.keys() == {"grown"}


async def test_a_server_that_dies_in_the_middle_of_a_call_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with over("stdio", tmp_path, monkeypatch) as example:
        with pytest.raises(ToolError, match="example: the connection was lost"):
            await example.call("die")
        assert "add" in example.tools()
        assert (await example.call("add", a=1, b=1)).text == "2"


async def test_a_server_that_has_forgotten_the_session_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(sse=False) as url:
        port = int(url.split(":")[2].split("/")[0])
        server = McpServer("example", HttpSource(url), timing=QUICKLY)
        await server.__aenter__()
        await server.settled()
    try:
        async with serve(port=port):
            assert (await Calls(server).call("add", a=1, b=1)).text == "2"
    finally:
        await server.__aexit__()


async def test_what_is_offered_and_how_is_the_operators_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"drop": RuleChanges(approval="never", on_steer="cancel", timeout=5.0, foreign=True)}
    policy = Policy(include=["drop", "*_page", "list_*"], exclude=["read_*"], changes=changes, timeout=7.0)
    async with over("http", tmp_path, monkeypatch, policy) as example:
        drop, resources = example.tools().values()
        assert (drop.name, drop.approval, drop.on_steer, drop.timeout, drop.foreign, drop.effect) == (
            "example_drop",
            "never",
            "cancel",
            5.0,
            True,
            "external",
        )
        assert (resources.name, resources.timeout) == ("example_list_resources", 7.0)


async def test_nobody_is_believed_whose_annotations_are_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with over("http", tmp_path, monkeypatch, Policy(trusts_annotations=False)) as example:
        add = example.tools()["add"]
        assert (add.effect, add.approval, add.foreign, add.repeatable) == ("external", "once", True, False)


EVERYTHING = "@modelcontextprotocol/server-everything"


async def test_the_reference_server_of_the_npm_registry_is_usable(tmp_path: Path) -> None:
    """Without the network: it must be in the cache of npm already."""
    if (npx := which("npx")) is None:
        pytest.skip("npx is not installed: the reference server is NOT tested")
    command = (npx, "--offline", "-y", EVERYTHING)
    found = await asyncio.create_subprocess_exec(
        *(npx, "--offline", "-y", "-p", EVERYTHING, "node", "-e", "0"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    if await found.wait():
        pytest.skip(f"{EVERYTHING} is not in the cache of npm: it is NOT tested. `npx -y {EVERYTHING}` puts it there")
    async with McpServer("every", ProcessSource("every", command, dict(os.environ)), timing=QUICKLY) as server:
        assert (await server.settled()).state == "running"
        every = Calls(server)
        assert (await every.call("echo", message="hi")).text == "Echo: hi"
        assert [file.media_type for file in (await every.call("get-tiny-image")).images] == ["image/png"]
        running = asyncio.create_task(every.call("trigger-long-running-operation", duration=60, steps=600))
        assert (await asyncio.wait_for(every.shown.get(), 30)).endswith("%")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await every.call("get-sum", a=1, b=2)).text == "The sum of 1 and 2 is 3."


# Servers that misbehave


async def test_a_server_that_lies_about_a_tool_loses_that_tool_only(tmp_path: Path) -> None:
    async with odd("lie", tmp_path) as server:
        status = await server.server.settled()
        assert list(server.tools()) == ["good", "talkative", "root"]
        assert (await server.call("good")).text == "called"
        assert len(server.tools()["talkative"].description) < 5_000
        assert server.tools()["root"].spec.schema == {
            "type": "object",
            "properties": {"a": {"type": "array", "items": {}}},
        }
    assert [problem.partition(":")[0] for problem in status.problems] == [
        "the tool text",
        "the tool typo",
        "the tool list",
        "the tool elsewhere",
        "the tool large",
        "the tool blank name",
        "the tool good",
        "the tool (no name)",
        "the tool (no name)",
    ]
    assert "the tool typo: its schema is not valid, properties.a.type" in str(status)


async def test_a_server_that_hangs_delays_nobody_and_is_told_of(tmp_path: Path) -> None:
    timing = Timing(start=0.3, wait=0.05, restart_delay=60.0)
    async with odd("hang", tmp_path, timing) as server:
        assert list(server.server) == []
        assert str(server.server.status) == "starting"
        assert str(await server.server.settled()) == "down: it was not ready within 0.3 s"


async def test_a_call_of_a_server_that_is_down_fails_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timing = Timing(restart_delay=60.0)
    async with serve() as url:
        server = McpServer("example", HttpSource(url), timing=timing)
        await server.__aenter__()
        await server.settled()
    try:
        calls = Calls(server)
        with pytest.raises(ToolError, match="example: "):
            await calls.call("add", a=1, b=1)
        await calls.until(lambda: server.status.state == "down")
        assert "add" in calls.tools()
        with pytest.raises(ToolError, match=r"example: the server is down: it cannot be reached \(ConnectError\)"):
            await calls.call("add", a=1, b=1)
    finally:
        await server.__aexit__()


async def test_after_a_restart_the_tools_are_there_before_the_server_is(tmp_path: Path) -> None:
    file = tmp_path / "known.json"
    async with serve() as url:
        async with McpServer("example", HttpSource(url), known=file) as server:
            await server.settled()
            before = [(tool.spec, tool.effect, tool.approval) for tool in server]
        async with McpServer("example", HttpSource(url), known=file) as server:
            assert server.status.state == "starting"
            assert [(tool.spec, tool.effect, tool.approval) for tool in server] == before
            assert (await Calls(server).call("add", a=1, b=1)).text == "2"
    file.write_text('{"tools": [{"name": 7}]}')
    async with McpServer("example", HttpSource(url), known=file) as server:
        assert list(server) == []


async def test_a_flood_of_notices_is_slowed_down_and_holds_nobody_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with odd("flood", tmp_path) as server:
        await server.server.settled()
        assert (await server.call("odd")).text == "called"
        await server.until(lambda: lines(tmp_path, "received").count("tools/list") >= 2)
        assert (await server.call("odd")).text == "called"
    said = [record for record in caplog.records if "says" in record.getMessage()]
    seconds = said[-1].created - said[0].created
    assert len(said) <= 20 * (seconds + 2)
    assert lines(tmp_path, "received").count("tools/list") < 10


async def test_an_endless_line_ends_the_connection_and_not_the_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import agent.mcp.transports

    monkeypatch.setattr(agent.mcp.transports, "MAX_MESSAGE", 100_000)
    async with odd("long", tmp_path) as server:
        await server.server.settled()
        with pytest.raises(ToolError, match="odd: the connection was lost"):
            await server.call("odd")
        await server.until(lambda: lines(tmp_path, "received").count("initialize") == 2)


@pytest.mark.parametrize("kind", ["noise", "old"])
async def test_a_server_that_says_what_is_no_message_or_bears_only_the_old_handshake_is_usable(
    kind: str, tmp_path: Path
) -> None:
    async with odd(kind, tmp_path) as server:
        await server.until(lambda: server.server.status.state == "running")
        assert (await server.call("odd")).text == "called"


# Rules, names, schemas


@pytest.mark.parametrize(
    ("annotations", "rules"),
    [
        ({}, ToolRules("external", "once", "finish", 9.0, repeatable=False, foreign=True)),
        ({"readOnlyHint": True}, ToolRules("read", "never", "cancel", 9.0, repeatable=True, foreign=True)),
        (
            {"readOnlyHint": True, "destructiveHint": True, "openWorldHint": False},
            ToolRules("read", "never", "cancel", 9.0, repeatable=True, foreign=False),
        ),
        ({"destructiveHint": True}, ToolRules("external", "always", "finish", 9.0, repeatable=False, foreign=True)),
        (
            {"destructiveHint": False, "idempotentHint": True},
            ToolRules("external", "once", "finish", 9.0, repeatable=True, foreign=True),
        ),
    ],
)
def test_what_a_tool_says_of_itself_becomes_its_rules(annotations: dict[str, bool], rules: ToolRules) -> None:
    assert rules_of(annotations, 9.0) == rules


def test_an_operator_who_says_that_a_tool_has_effects_gets_an_approval_with_it() -> None:
    assert rules_of({"readOnlyHint": True}, 9.0, RuleChanges(effect="external")).approval == "once"


@pytest.mark.parametrize("name", ["search", "issues/list", "ärger", "", "x" * 300, "a b", "😀"])
def test_every_name_of_a_tool_becomes_one_that_every_provider_takes(name: str) -> None:
    full = tool_name("github", name)
    assert TOOL_NAME.fullmatch(full)
    assert full.startswith("github_")


def test_names_stay_apart() -> None:
    names = ["a b", "a_b", "a/b", "x" * 300, "x" * 301]
    assert len({tool_name("s", name) for name in names}) == len(names)
    assert tool_name("read", "file", {"read_file"}) != "read_file"


def test_a_schema_that_refers_to_itself_is_usable() -> None:
    schema = {
        "type": "object",
        "properties": {"child": {"$ref": "#/$defs/node"}},
        "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}},
    }
    assert usable_schema(schema) == schema


def test_a_schema_that_is_nested_without_end_is_refused() -> None:
    schema: dict[str, Any] = {"type": "object"}
    inner = schema
    for _ in range(2000):
        inner["properties"] = {"a": {"type": "object"}}
        inner = inner["properties"]["a"]
    with pytest.raises(BadSchema, match="nested more than"):
        usable_schema(schema)


def test_more_tools_than_anybody_needs_are_left_out_and_named() -> None:
    tools = [{"name": f"t{number}", "inputSchema": {"type": "object"}} for number in range(600)]
    listing = read_listing(tools)
    assert len(listing.tools) == 500
    assert listing.problems == ("it lists 600 tools; those after the first 500 are left out",)


# Cost


def test_nothing_of_it_is_loaded_without_a_server() -> None:
    """But what the store knows of accounts, which imports nothing more."""
    code = (
        "import sys, gateway.assembly.build, gateway.cli.check; "
        "print([name for name in sys.modules if name.split('.')[0] in ('mcp', 'httpx2', 'jsonschema')"
        " or name.startswith('agent.mcp.') and name not in ('agent.mcp.account', 'agent.mcp.errors')])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_server_that_has_not_started_has_not_loaded_the_library() -> None:
    code = (
        "import sys, agent.mcp.server, agent.mcp.sources; "
        "print([name for name in sys.modules if name.split('.')[0] in ('mcp', 'httpx2', 'jsonschema')])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# Prompts


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("", None),
        ("12", {"number": "12"}),
        ("12  all of  it", {"number": "12", "focus": "all", "style": "of  it"}),
    ],
)
def test_the_arguments_of_a_prompt_are_words_and_the_last_one_takes_the_rest(
    text: str, arguments: dict[str, str] | None
) -> None:
    declared = (PromptArgument("number", required=True), PromptArgument("focus"), PromptArgument("style"))
    prompt = Prompt("review", "Reviews.", declared)
    assert prompt.filled(text) == arguments
    assert prompt.usage == "<number> [focus] [style]"


def test_a_prompt_that_needs_a_later_argument_needs_those_before_it_too() -> None:
    prompt = Prompt("move", "Moves.", (PromptArgument("from"), PromptArgument("to", required=True)))
    assert prompt.filled("here") is None
    assert prompt.filled("here there") == {"from": "here", "to": "there"}


def test_each_prompt_is_one_command_that_every_platform_takes() -> None:
    names = ["Review it!", "review-it", "review_it", "r" * 300, "r" * 301, "überprüfen", "\ud800"]
    taken: set[str] = set()
    for name in names:
        taken.add(command_name("my-server", name, taken))
    assert len(taken) == len(names)
    assert all(re.fullmatch("[a-z0-9_]+", command) and len(command) <= MAX_COMMAND for command in taken)

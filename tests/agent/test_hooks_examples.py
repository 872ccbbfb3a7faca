"""The examples of hooks, run as their first lines say."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agent.hook import Ask, Deny, HookContext, MessageIn, ModelRequest, ReplyPart, Ruled, ToolCall, ToolEnd
from agent.hooks.chain import HookChain, RegisteredHook
from agent.hooks.http import HttpHook
from agent.hooks.process import ProcessHook
from agent.hooks.python import python_hook

EXAMPLES = Path(__file__).parents[2] / "examples" / "hooks"
HERE = HookContext(session="s", channel="web", run_id="r", sender="Ada")


def shell(command: str) -> ToolCall:
    return ToolCall("c1", "shell", {"command": command, "timeout_seconds": 5}, "external")


async def test_the_team_rules_are_applied() -> None:
    points = ("before_model", "before_tool", "approve_tool", "before_reply")
    rules = python_hook(f"{EXAMPLES / 'team_rules.py'}:TeamRules", points)
    async with HookChain([RegisteredHook("team-rules", rules, points)]) as chain:
        first, _ = await chain.ask("before_model", HERE, ModelRequest(1, ("hi",), "Be kind.", ()))
        second, _ = await chain.ask("before_model", HERE, ModelRequest(2, ("hi",), "Be kind.", ()))
        assert (first.notices, second.notices) == (("The office is closed on Fridays.",), ())
        slow, _ = await chain.ask("before_tool", HERE, ToolCall("c", "shell", {"command": "make"}, "external"))
        assert slow.arguments == {"command": "make", "timeout_seconds": 60}
        _, ruled = await chain.ask("before_tool", HERE, ToolCall("c", "read_file", {"path": "a/.env"}, "read"))
        assert ruled == Ruled(Deny("files with secrets are not readable"), "team-rules")
        assert (await chain.ask("approve_tool", HERE, shell("ls")))[1] is None
        _, ruled = await chain.ask("approve_tool", HERE, shell("rm -rf build"))
        assert ruled == Ruled(Ask("this cannot be undone"), "team-rules")
        part, _ = await chain.ask("before_reply", HERE, ReplyPart("text", "It is 4111 1111 1111 1111."))
        assert part.text == "It is [card number]."


async def test_the_review_process_denies_asks_and_masks() -> None:
    points = ("before_tool", "approve_tool", "after_tool")
    review = ProcessHook("review", [sys.executable, str(EXAMPLES / "review.py")], points)
    async with HookChain([RegisteredHook("review", review, points, timeout=60)]) as chain:
        assert await chain.ask("before_tool", HERE, shell("ls")) == (shell("ls"), None)
        _, ruled = await chain.ask("before_tool", HERE, shell("sudo rm x"))
        assert ruled == Ruled(Deny("commands as root are not allowed"), "review")
        _, ruled = await chain.ask("approve_tool", HERE, shell("ls"))
        assert ruled == Ruled(Ask("Ada is not at the terminal"), "review")
        assert (await chain.ask("approve_tool", HookContext(channel="terminal"), shell("ls")))[1] is None
        end, _ = await chain.ask("after_tool", HERE, ToolEnd("c1", "shell", "done", "KEY=sk-abcdefghijklmnopqrst"))
        assert end.text == "KEY=[a key]"


async def test_no_tool_runs_while_frozen_and_every_event_is_logged(tmp_path: Path) -> None:
    frozen, events = tmp_path / "frozen", tmp_path / "events.jsonl"
    freeze = ProcessHook(
        "freeze", ["sh", str(EXAMPLES / "freeze.sh"), str(frozen), str(events)], ("before_tool", "on_event")
    )
    hook = RegisteredHook("freeze", freeze, ("before_tool", "on_event"), timeout=60, on_error="closed")
    tricky = shell("""echo '"method":"ping","id":99' \\n \N{SNOWMAN} "$(reboot)" """)
    async with HookChain([hook]) as chain:
        assert await chain.ask("before_tool", HERE, tricky) == (tricky, None)
        frozen.touch()
        chain.observe(HERE, {"kind": "frozen"})
        assert (await chain.ask("before_tool", HERE, tricky))[1] == Ruled(Deny("tools are frozen"), "freeze")
        frozen.unlink()
        assert await chain.ask("before_tool", HERE, shell("ls")) == (shell("ls"), None)
    (event,) = events.read_text().splitlines()
    assert json.loads(event)["params"]["event"] == {"kind": "frozen"}


@asynccontextmanager
async def listening(secret: str) -> AsyncIterator[str]:
    """The example's endpoint on a free port."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLES / "endpoint.py"), "0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "HOOK_SECRET": secret},
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            line = await process.stdout.readline()
        yield line.decode().removeprefix("listening on ").strip()
    finally:
        process.kill()
        await process.wait()


async def test_the_endpoint_keeps_addresses_from_the_model_and_accepts_only_signed_requests() -> None:
    async with listening("right") as url:
        async with HookChain(
            [RegisteredHook("addresses", HttpHook("a", url, "right"), ("on_message",), timeout=60)]
        ) as chain:
            message, _ = await chain.ask("on_message", HERE, MessageIn("write to ada@example.com"))
            assert message.text == "write to [an address]"
            _, ruled = await chain.ask("on_message", HERE, MessageIn("-----BEGIN PRIVATE KEY-----"))
            assert ruled == Ruled(Deny("do not send private keys"), "addresses")
        stranger = RegisteredHook(
            "addresses", HttpHook("a", url, "wrong"), ("on_message",), timeout=60, on_error="closed"
        )
        async with HookChain([stranger]) as chain:
            _, ruled = await chain.ask("on_message", HERE, MessageIn("hello"))
            assert ruled == Ruled(Deny("the hook 'addresses' failed: it answered 401"), "addresses")

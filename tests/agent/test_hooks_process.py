"""Hooks as processes: the protocol, and processes that exit, lie, hang, flood and will not end."""

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from agent.hook import Deny, HookContext, MessageIn, Point, Ruled, ToolCall
from agent.hooks.chain import HookChain, RegisteredHook
from agent.hooks.process import ProcessHook, ProcessTimeouts
from agent.hooks.runner import HookError

HERE = HookContext(session="s", channel="terminal", run_id="r", sender="Ada", sender_id="7")
CALL = ToolCall("c1", "shell", {"command": "ls"}, "external")
QUICK = ProcessTimeouts(restart_delay=0.01, max_restart_delay=0.05, grace=0.5)

TALK = """
import json, os, signal, subprocess, sys, threading, time

def read():
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    return json.loads(line)

def say(text):
    sys.stdout.write(text + "\\n")
    sys.stdout.flush()

def answer(question, result):
    say(json.dumps({"jsonrpc": "2.0", "id": question["id"], "result": result}))

def greet():
    question = read()
    answer(question, {"protocol": 1})
    return question["params"]

def deny(question, reason):
    answer(question, {"decision": "deny", "reason": reason})
"""
OBEDIENT = """
greet()
while True:
    question = read()
    deny(question, "pid %d" % os.getpid()) if question["method"] == "hook/before_tool" else answer(question, {})
"""


class Script:
    """A program for a hook's process, written for one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def hook(
        self,
        program: str,
        *arguments: str,
        timeouts: ProcessTimeouts = QUICK,
        points: tuple[Point, ...] = ("before_tool",),
        variables: frozenset[str] = frozenset(),
    ) -> ProcessHook:
        file = self.folder / "hook.py"
        file.write_text(TALK + program)
        return ProcessHook(
            "guard", [sys.executable, "-I", str(file), *arguments], points, timeouts=timeouts, variables=variables
        )


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


async def ask(hook: ProcessHook, point: Point = "before_tool", subject: Any = CALL) -> Any:
    async with asyncio.timeout(60):
        return await hook.ask(point, HERE, subject)


async def ask_until_it_answers(hook: ProcessHook, *, but: str = "") -> Any:
    """The first answer that is not an error, nor the one that it gave before."""
    async with asyncio.timeout(60):
        while True:
            with suppress(HookError):
                answer = await hook.ask("before_tool", HERE, CALL)
                if answer.reason != but:
                    return answer
            await asyncio.sleep(0.01)


async def logged(caplog: pytest.LogCaptureFixture, words: str) -> None:
    await eventually(lambda: words in caplog.text)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - a process of somebody else's ends without an event
            await asyncio.sleep(0.01)


def process_of(answer: Any) -> int:
    return int(answer.reason.removeprefix("pid "))


def is_dead(process: int) -> bool:
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_a_process_is_greeted_asked_and_told_events(script: Script) -> None:
    program = """
params = greet()
event = read()
question = read()
deny(question, json.dumps([params, event, question]))
"""
    async with script.hook(program, points=("before_tool", "on_event")) as hook:
        await hook.observe(HERE, {"kind": "model_answered", "step": 1})
        answer = await ask(hook)
    context = '{"session": "s", "channel": "terminal", "run_id": "r", "sender": "Ada", "sender_id": "7", "agent": ""}'
    assert answer.reason == (
        '[{"protocol": 1, "name": "guard", "points": ["before_tool", "on_event"]}, '
        f'{{"jsonrpc": "2.0", "method": "event", "params": {{"context": {context}, '
        '"event": {"kind": "model_answered", "step": 1}}}, '
        f'{{"jsonrpc": "2.0", "id": 2, "method": "hook/before_tool", "params": {{"context": {context}, '
        '"subject": {"call_id": "c1", "tool": "shell", "arguments": {"command": "ls"}, "effect": "external", '
        '"foreign": [], "tools": {}}}}]'
    )


async def test_a_process_changes_only_what_it_names(script: Script) -> None:
    program = """
greet()
answer(read(), {"decision": "modify", "change": {"note": "said in haste"}})
read()
"""
    async with script.hook(program) as hook:
        assert await ask(hook, "on_message", MessageIn("now!")) == MessageIn("now!", "said in haste")


@pytest.mark.parametrize(
    ("result", "why"),
    [
        ('{"decision": "maybe"}', "its answer is invalid"),
        ('{"decision": "deny"}', "reason: Field required"),
        ('{"decision": "modify", "change": {"effect": "read"}}', "effect cannot be changed here"),
        ('{"decision": "modify", "change": {"arguments": "ls"}}', "arguments: Input should be"),
        ('{"decision": "modify"}', "change: Field required"),
        ("[]", "its answer is invalid"),
        ("null", "its answer is invalid"),
    ],
)
async def test_a_decision_that_does_not_fit_is_an_error_and_the_process_goes_on(
    script: Script, result: str, why: str
) -> None:
    program = f"""
greet()
question = read()
say('{{"jsonrpc": "2.0", "id": %d, "result": {result}}}' % question["id"])
deny(read(), "still here")
read()
"""
    async with script.hook(program) as hook:
        with pytest.raises(HookError, match=why):
            await ask(hook)
        assert await ask(hook) == Deny("still here")


async def test_an_error_instead_of_a_result_is_that_questions_only(script: Script) -> None:
    program = """
greet()
say(json.dumps({"jsonrpc": "2.0", "id": read()["id"], "error": {"code": -32000, "message": "no idea"}}))
deny(read(), "still here")
read()
"""
    async with script.hook(program) as hook:
        with pytest.raises(HookError, match="it answered with an error: no idea"):
            await ask(hook)
        assert await ask(hook) == Deny("still here")


async def test_questions_are_asked_side_by_side_and_answered_in_any_order(script: Script) -> None:
    program = """
greet()
for question in reversed([read() for _ in range(20)]):
    deny(question, question["params"]["subject"]["call_id"])
read()
"""
    async with script.hook(program) as hook:
        calls = [ToolCall(f"c{number}", "shell", {}, "read") for number in range(20)]
        answers = await asyncio.gather(*(ask(hook, subject=call) for call in calls))
    assert answers == [Deny(f"c{number}") for number in range(20)]


async def test_a_process_that_exits_is_started_again(script: Script, caplog: pytest.LogCaptureFixture) -> None:
    async with script.hook(OBEDIENT) as hook:
        first = await ask(hook)
        psutil.Process(process_of(first)).kill()
        second = await ask_until_it_answers(hook, but=first.reason)
    assert is_dead(process_of(first))
    assert is_dead(process_of(second))
    assert "hook guard: it ended with exit code -9; restarting in" in caplog.text


LIES = {
    "exits in the middle of a question": ("sys.exit(3)", "it ended with exit code 3"),
    "exits in the middle of an answer": ("sys.stdout.write('{\"json'); sys.stdout.flush(); sys.exit(4)", "code 4"),
    "writes what is not JSON": ("say('debug: here'); read()", "its answer is not JSON: debug: here"),
    "writes an empty line": ("say(''); read()", "its answer is not JSON"),
    "writes no object": ("say('[1, 2]'); read()", "it wrote an invalid answer"),
    "answers an unknown question": ("answer({'id': 77}, {}); read()", "it answered request 77, which is unknown"),
    "answers with another kind of id": ("say(json.dumps({**REPLY, 'id': str(q['id'])})); read()", "id: Input should"),
    "answers with neither result nor error": ("say(json.dumps(REPLY)); read()", "either a result or an error"),
    "answers with both": ("say(json.dumps({**REPLY, 'result': 1, 'error': {'code': 1, 'message': ''}})); read()", "ei"),
    "asks instead of answering": (
        "say(json.dumps({**REPLY, 'method': 'tell', 'params': {}})); read()",
        "invalid answer",
    ),
    "writes a huge line": ("say('x' * 16_800_000); read()", "it wrote a line of more than 16,777,216 bytes"),
    "writes a huge line without end": (
        "[sys.stdout.write('x' * 1_000_000) for _ in iter(int, 1)]",
        "it wrote a line of more than 16,777,216 bytes",
    ),
    "closes its output": ("os.close(1); os.closerange(3, 256); read()", "it closed its output"),
}


@pytest.mark.parametrize("name", LIES)
async def test_a_process_that_lies_is_started_again(
    script: Script, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lie, why = LIES[name]
    program = f"""
import pathlib
lied = pathlib.Path(sys.argv[1])
if not lied.exists():
    greet()
    q = read()
    lied.touch()
    REPLY = {{"jsonrpc": "2.0", "id": q["id"]}}
    {lie}
{OBEDIENT}"""
    async with script.hook(program, str(tmp_path / "lied")) as hook:
        with pytest.raises(HookError, match=why):
            await ask(hook)
        assert isinstance(await ask_until_it_answers(hook), Deny)
    assert "restarting in" in caplog.text


async def test_a_process_that_answers_twice_is_started_again(
    script: Script, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    program = f"""
import pathlib
lied = pathlib.Path(sys.argv[1])
if not lied.exists():
    greet()
    question = read()
    lied.touch()
    deny(question, "once")
    deny(question, "twice")
    read()
{OBEDIENT}"""
    async with script.hook(program, str(tmp_path / "lied")) as hook:
        assert await ask(hook) == Deny("once")
        assert process_of(await ask_until_it_answers(hook, but="once"))
    assert "which is unknown or already answered" in caplog.text


async def test_a_late_answer_is_no_lie(script: Script, tmp_path: Path) -> None:
    program = """
greet()
late = read()
open(sys.argv[1], "w").close()
ping = read()
question = read()
deny(late, "late")
answer(ping, {})
deny(question, "in time")
read()
"""
    async with script.hook(program, str(tmp_path / "asked")) as hook:
        asking = asyncio.create_task(ask(hook))
        await eventually((tmp_path / "asked").exists)
        asking.cancel()
        await asyncio.wait({asking})
        assert await ask(hook) == Deny("in time")


async def test_a_process_that_never_answers_costs_its_time_limit_and_is_started_again(
    script: Script, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    program = f"""
import pathlib
deaf = pathlib.Path(sys.argv[1])
if not deaf.exists():
    greet()
    deaf.touch()
    while True:
        read()
{OBEDIENT}"""
    hook = script.hook(program, str(tmp_path / "deaf"), timeouts=ProcessTimeouts(ping=0.05, restart_delay=0.01))
    async with HookChain([RegisteredHook("guard", hook, ("before_tool", "approve_tool"), timeout=0.5)]) as chain:
        async with asyncio.timeout(60):
            while "hook guard: it does not answer; restarting in" not in caplog.text:
                _, ruled = await chain.ask("approve_tool", HERE, CALL)
                assert ruled is not None
                assert isinstance(ruled.ruling, Deny)
                await asyncio.sleep(0.01)
        assert "treated as denied: it timed out after 0.5 s" in caplog.text
        await ask_until_it_answers(hook)


async def test_a_process_that_does_not_read_is_started_again(
    script: Script, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    program = f"""
import pathlib
deaf = pathlib.Path(sys.argv[1])
if not deaf.exists():
    greet()
    deaf.touch()
    time.sleep(3600)
{OBEDIENT}"""
    large = ToolCall("c", "write_file", {"content": "x" * 900_000}, "write")
    hook = script.hook(
        program, str(tmp_path / "deaf"), timeouts=ProcessTimeouts(ping=0.05, restart_delay=0.01, grace=0.5)
    )
    async with HookChain([RegisteredHook("guard", hook, ("before_tool",), timeout=0.2)]) as chain:
        async with asyncio.timeout(60):
            while "hook guard: it does not answer" not in caplog.text:
                await asyncio.gather(*(chain.ask("before_tool", HERE, large) for _ in range(5)))
                await asyncio.sleep(0.01)
        await ask_until_it_answers(hook)


async def test_a_quiet_process_is_asked_for_a_sign_of_life(script: Script, tmp_path: Path) -> None:
    program = """
greet()
ping = read()
assert ping["method"] == "ping"
answer(ping, {})
ping = read()
say(json.dumps({"jsonrpc": "2.0", "id": ping["id"], "error": {"code": -32601, "message": "what is a ping?"}}))
open(sys.argv[1], "w").close()
while True:
    question = read()
    answer(question, {}) if question["method"] == "ping" else deny(question, "after two pings")
"""
    async with script.hook(program, str(tmp_path / "pinged"), timeouts=ProcessTimeouts(idle=0.05)) as hook:
        await eventually((tmp_path / "pinged").exists)
        assert await ask(hook) == Deny("after two pings")


async def test_a_process_that_is_not_ready_in_time_is_started_again(
    script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    async with script.hook("time.sleep(3600)", timeouts=ProcessTimeouts(start=0.05, restart_delay=0.01)) as hook:
        await logged(caplog, "hook guard: it was not ready within 0.05 s; restarting in 0.02 s")
        with pytest.raises(HookError, match="not ready within"):
            await ask(hook)


async def test_a_process_of_another_protocol_is_not_used(script: Script, caplog: pytest.LogCaptureFixture) -> None:
    async with script.hook('answer(read(), {"protocol": 2}); read()') as hook:
        with pytest.raises(HookError, match="it must answer initialize with protocol 1"):
            await ask(hook)


async def test_the_pauses_double_up_to_the_longest(caplog: pytest.LogCaptureFixture) -> None:
    hook = ProcessHook(
        "guard", ["false"], ["before_tool"], timeouts=ProcessTimeouts(restart_delay=0.01, max_restart_delay=0.04)
    )
    async with hook:
        await eventually(lambda: caplog.text.count("restarting in 0.04 s") >= 2)
    pauses = [record.getMessage().rpartition(" in ")[2] for record in caplog.records]
    assert pauses[:4] == ["0.01 s", "0.02 s", "0.04 s", "0.04 s"]


async def test_a_command_that_is_not_there_is_told_in_the_log_and_to_who_asks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with ProcessHook("guard", ["no-such-program"], ["before_tool"], timeouts=QUICK) as hook:
        with pytest.raises(HookError, match="'no-such-program' cannot be started: "):
            await ask(hook)
        await logged(caplog, "hook guard: 'no-such-program' cannot be started")


def test_a_hook_without_a_command_is_refused() -> None:
    with pytest.raises(HookError, match="the hook 'guard' needs a command"):
        ProcessHook("guard", [], ["before_tool"])


async def test_what_is_too_long_or_no_json_is_not_asked_and_the_process_goes_on(script: Script) -> None:
    async with script.hook(OBEDIENT) as hook:
        with pytest.raises(HookError, match="the limit is 1,048,576"):
            await ask(hook, subject=ToolCall("c", "write_file", {"content": "x" * 1_100_000}, "write"))
        with pytest.raises(HookError, match="the message cannot be encoded as JSON"):
            await ask(hook, subject=ToolCall("c", "write_file", {"content": object()}, "write"))
        assert isinstance(await ask(hook), Deny)


async def test_stderr_is_in_the_log_one_bounded_line_each(script: Script, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    program = """
sys.stderr.write("ready \\x1b[31mnow\\n" + "y" * 100_000 + "\\nnot ended")
sys.stderr.flush()
""" + OBEDIENT.replace("while True", "for _ in range(1)")
    async with script.hook(program) as hook:
        await ask(hook)
        await logged(caplog, "hook guard: not ended")
    messages = [record.getMessage() for record in caplog.records]
    assert "hook guard: ready [31mnow" in messages
    assert f"hook guard: {'y' * 500}…" in messages


async def test_a_flood_on_stderr_is_bounded_and_holds_nobody_up(
    script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    program = (
        """
def flood():
    while True:
        sys.stderr.write("water " * 10 + "\\n")
threading.Thread(target=flood, daemon=True).start()
"""
        + OBEDIENT
    )
    async with script.hook(program) as hook:
        for _ in range(50):
            assert isinstance(await ask(hook), Deny)
        await logged(caplog, "more lines)")
    lines = sum("water" in record.getMessage() for record in caplog.records)
    rests = sum("more lines)" in record.getMessage() for record in caplog.records)
    assert lines <= 20 * (rests + 2)


async def test_the_process_is_given_no_variables_but_the_usual_and_those_that_are_named(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("INTERJECT_CONFIG", "private")
    monkeypatch.setenv("COLOUR", "blue")
    monkeypatch.setenv("DSN", "password")
    program = """
greet()
deny(read(), " ".join(f"{name}={value}" for name, value in os.environ.items()))
read()
"""
    async with script.hook(program, variables=frozenset({"COLOUR"})) as hook:
        answer = await ask(hook)
    assert "COLOUR=blue" in answer.reason
    assert "password" not in answer.reason
    assert "sk-secret" not in answer.reason
    assert "private" not in answer.reason


async def test_a_process_that_will_not_end_is_killed_with_all_that_it_started(script: Script) -> None:
    program = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, 1); time.sleep(3600)"])
greet()
deny(read(), "pid %d" % child.pid)
time.sleep(3600)
"""
    async with script.hook(program) as hook:
        child = process_of(await ask(hook))
        parent = psutil.Process(child).ppid()
        assert parent != os.getpid()
    await eventually(lambda: is_dead(child) and is_dead(parent))


async def test_an_exited_process_whose_child_holds_its_pipes_is_noticed(
    script: Script, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    program = f"""
import pathlib
lied = pathlib.Path(sys.argv[1])
if not lied.exists():
    greet()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"], start_new_session=True)
    lied.write_text(str(child.pid))
    sys.exit(5)
{OBEDIENT}"""
    async with script.hook(program, str(tmp_path / "lied")) as hook:
        await logged(caplog, "it ended with exit code 5")
        await ask_until_it_answers(hook)
    psutil.Process(int((tmp_path / "lied").read_text())).kill()


async def test_who_asks_while_the_process_starts_waits_for_it(script: Script, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    async with script.hook("open(sys.argv[1]).read()" + OBEDIENT, str(tmp_path / "gate")) as hook:
        asking = asyncio.create_task(ask(hook))
        await asyncio.to_thread((tmp_path / "gate").write_text, "open")
        assert isinstance(await asking, Deny)


async def test_a_question_open_at_the_end_is_told_so(script: Script) -> None:
    async with script.hook("greet(); read(); sys.stderr.write('asked'); sys.stderr.flush(); read()") as hook:
        await hook.observe(HERE, {})
        asking = asyncio.create_task(ask(hook))
    with pytest.raises(HookError, match="its process"):
        await asking


async def test_nothing_goes_on_after_the_end_however_the_process_fares_just_then() -> None:
    for turns in range(0, 600, 10):
        async with ProcessHook("guard", ["echo", "nonsense"], ["before_tool"], timeouts=QUICK):
            for _ in range(turns):
                await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_process_answers_through_the_chain_for_its_hook(script: Script) -> None:
    hook = script.hook("greet(); deny(read(), 'not today'); read()")
    async with HookChain([RegisteredHook("guard", hook, ("before_tool",))]) as chain:
        assert await chain.ask("before_tool", HERE, CALL) == (CALL, Ruled(Deny("not today"), "guard"))

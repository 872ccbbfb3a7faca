"""The shell tool, on real processes."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from secrets import token_hex

import psutil
import pytest

from agent.testing import MemoryMedia
from agent.tool import ToolContext, ToolError
from agent.tools import load_tools
from agent.tools.sandbox import CommandLimits, CommandPolicy, SandboxUnavailable, probe_sandbox
from agent.tools.shell import shell_with
from tests.children import children

ALONE = CommandPolicy(sandboxed=False)


class Shell:
    """The tool as a turn would use it, with what it showed meanwhile."""

    def __init__(self, workspace: Path, policy: CommandPolicy = ALONE) -> None:
        self.workspace = workspace
        self._tool = shell_with(policy)
        self.shown: list[tuple[float, str]] = []
        self.news = asyncio.Event()

    async def run(self, command: str, **options: object) -> str:
        context = ToolContext(self.workspace, MemoryMedia(), self._progress)
        return (await self._tool.call(context, json.dumps({"command": command, **options}))).text

    async def has_failed(self, command: str) -> bool:
        context = ToolContext(self.workspace, MemoryMedia(), self._progress)
        return (await self._tool.call(context, json.dumps({"command": command}))).failed

    async def saw(self, words: str) -> None:
        async with asyncio.timeout(60):
            while not any(words in text for _, text in self.shown):
                self.news.clear()
                await self.news.wait()

    async def _progress(self, text: str) -> None:
        self.shown.append((time.monotonic(), text))
        self.news.set()


async def sandbox_or_skip() -> None:
    try:
        await probe_sandbox()
    except SandboxUnavailable as error:
        pytest.skip(f"NO SANDBOX HERE, so it is not tested: {error}")


@pytest.fixture(params=["in the sandbox", "outside"])
async def shell(tmp_path: Path, request: pytest.FixtureRequest) -> Shell:
    if request.param == "outside":
        return Shell(tmp_path)
    await sandbox_or_skip()
    return Shell(tmp_path, CommandPolicy())


def a_long_sleep() -> str:
    """The argument of a `sleep` that is like no other."""
    return f"300.{token_hex(4).translate(str.maketrans('abcdef', '012345'))}"


def is_over(sleep: str) -> bool:
    return not any(
        sleep in process.info["cmdline"] for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"]
    )


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - a process of somebody else's ends without an event
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(shell: Shell, command: str, **options: object) -> AsyncIterator[asyncio.Task[str]]:
    task = asyncio.create_task(shell.run(command, **options))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_a_command_that_ends_with_another_exit_code_than_0_has_failed(shell: Shell) -> None:
    assert await shell.has_failed("exit 3")
    assert not await shell.has_failed("true")


async def test_a_command_runs_in_the_workspace_and_tells_output_errors_and_exit_code(shell: Shell) -> None:
    (shell.workspace / "a.txt").write_text("hello")
    assert await shell.run("cat a.txt; echo; echo oops >&2; exit 3") == "hello\noops\n[exit code 3]"


async def test_a_silent_command_tells_its_exit_code(shell: Shell) -> None:
    assert await shell.run("true") == "[exit code 0]"


async def test_a_command_that_dies_of_a_signal_says_so(shell: Shell) -> None:
    assert await shell.run("kill -9 $$") == "[ended by signal 9]"


async def test_there_is_no_input_to_wait_for(shell: Shell) -> None:
    assert await shell.run("cat; echo done") == "done\n[exit code 0]"


async def test_long_output_is_cut_in_the_middle_and_says_how_much(shell: Shell) -> None:
    text = await shell.run("echo START; head -c 1000000 /dev/zero | tr '\\0' x; echo; echo END")
    assert text.startswith("START\nxxx")
    assert text.endswith("xxx\nEND\n[exit code 0]")
    assert f"[… {1_000_000 + 11 - 32_000:,} bytes left out …]" in text
    assert len(text) < 33_000


async def test_a_cut_does_not_break_characters(shell: Shell) -> None:
    text = await shell.run("printf x; for i in $(seq 40000); do printf ä; done")
    assert "bytes left out" in text
    assert "\N{REPLACEMENT CHARACTER}" not in text


async def test_output_that_is_not_utf_8_is_shown_with_marks(shell: Shell) -> None:
    assert await shell.run(r"printf 'a\xff\xfeb\x00c'") == "a\ufffd\ufffdb\ufffdc\n[exit code 0]"


async def test_colours_and_overwritten_lines_are_not_shown(shell: Shell) -> None:
    assert await shell.run(r"printf '\033[31mred\033[0m\n10%%\r100%%\n'") == "red\n100%\n[exit code 0]"


async def test_progress_shows_the_last_lines_while_the_command_runs(shell: Shell) -> None:
    (shell.workspace / "go").touch()
    command = "for i in 1 2 3 4 5 6 7; do echo line $i; done; while [ -e go ]; do sleep 0.02; done"
    async with running(shell, command) as task:
        await shell.saw("line 7")
        assert not task.done()
        assert shell.shown[-1][1] == "line 3\nline 4\nline 5\nline 6\nline 7"
        (shell.workspace / "go").unlink()
        assert (await task).endswith("[exit code 0]")


async def test_progress_is_told_at_most_five_times_a_second(shell: Shell) -> None:
    await shell.run("for i in $(seq 60); do echo $i; sleep 0.01; done")
    times = [at for at, _ in shell.shown]
    assert len(times) > 1
    assert all(after - before > 0.15 for before, after in pairwise(times))


async def test_a_command_over_its_time_is_ended_with_all_of_its_processes(shell: Shell) -> None:
    sleep = a_long_sleep()
    with pytest.raises(ToolError, match=r"(?s)begun.*longer than 1 s") as failure:
        await shell.run(f"echo begun; sleep {sleep} & setsid sleep {sleep} & wait", timeout_seconds=1)
    assert "all its processes were ended" in str(failure.value)
    await eventually(lambda: is_over(sleep))


async def test_a_process_that_ignores_the_request_to_end_is_killed_after_a_grace(shell: Shell) -> None:
    started, sleep = time.monotonic(), a_long_sleep()
    with pytest.raises(ToolError, match="longer than 1 s"):
        await shell.run(f"trap '' TERM; while :; do sleep {sleep}; done", timeout_seconds=1)
    assert 2.5 < time.monotonic() - started < 30
    await eventually(lambda: is_over(sleep))


async def test_a_process_asked_to_end_may_tidy_up(shell: Shell) -> None:
    with pytest.raises(ToolError, match=r"(?s)tidied.*longer than 1 s"):
        await shell.run("trap 'echo tidied; exit' TERM; while :; do sleep 0.1; done", timeout_seconds=1)


async def test_cancelling_ends_a_grandchild_that_ignores_the_request(shell: Shell) -> None:
    sleep = a_long_sleep()
    command = f"bash -c 'trap \"\" TERM; echo ready; while :; do sleep {sleep}; done' & wait"
    async with running(shell, command) as task:
        await shell.saw("ready")
        await eventually(lambda: not is_over(sleep))
        started = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - started < 10
        await eventually(lambda: is_over(sleep))


async def test_cancelling_twice_still_kills(shell: Shell) -> None:
    sleep = a_long_sleep()
    async with running(shell, f"trap '' TERM; echo ready; while :; do sleep {sleep}; done") as task:
        await shell.saw("ready")
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: is_over(sleep))


async def test_cancelling_at_any_moment_of_the_start_leaves_nothing(shell: Shell) -> None:
    for moments in range(40):
        async with running(shell, "sleep 300 & sleep 300") as task:
            for _ in range(moments):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    await eventually(lambda: not children())


async def test_no_zombies_are_left(shell: Shell) -> None:
    await asyncio.gather(*(shell.run("sleep 0.05 & true") for _ in range(5)))
    await eventually(lambda: not children())


@pytest.mark.parametrize(
    "detached",
    [
        "sleep {} &",
        "setsid sleep {} &",
        "(setsid env -i sleep {} &)",
        "nohup setsid bash -c 'trap \"\" TERM; sleep {}' &",
    ],
)
async def test_what_a_command_leaves_running_ends_with_it_however_it_was_detached(shell: Shell, detached: str) -> None:
    started, sleep = time.monotonic(), a_long_sleep()
    text = await shell.run(f"{detached.format(sleep)}\necho hi")
    assert text == "hi\n[exit code 0; processes left in the background were ended with the command]"
    assert time.monotonic() - started < 60
    await eventually(lambda: is_over(sleep))


async def test_output_of_a_process_substitution_is_not_lost(shell: Shell) -> None:
    assert "late" in await shell.run("echo late > >(sleep 0.05; cat)")


async def test_the_environment_is_an_allowlist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "INTERJECT_MODELS", "SLACK_APP", "DSN", "MONKEY"):
        monkeypatch.setenv(name, "do-not-tell")
    monkeypatch.setenv("EDITION", "third")
    monkeypatch.setenv("LC_TIME", "C")
    policy = CommandPolicy(sandboxed=False, variables=frozenset({"EDITION"}))
    text = await Shell(tmp_path, policy).run("env")
    assert "do-not-tell" not in text
    assert {line.partition("=")[0] for line in text.splitlines() if "=" in line} <= {
        *("PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM", "LC_TIME", "LC_ALL", "LC_CTYPE", "EDITION"),
        *("NO_COLOR", "PAGER", "GIT_PAGER", "GIT_TERMINAL_PROMPT", "PWD", "SHLVL", "_"),
    }
    assert "EDITION=third" in text


async def test_limits_hold_and_cannot_be_raised(tmp_path: Path) -> None:
    limits = CommandLimits(memory=100 * 2**20, file_size=2**20, cpu_seconds=7, output=1000)
    shell = Shell(tmp_path, CommandPolicy(sandboxed=False, limits=limits))
    assert "MemoryError" in await shell.run("python3 -c 'x = bytearray(300 * 2**20)'")
    assert "File size limit" in await shell.run("head -c 3000000 /dev/zero >big; echo $?; ls") or (
        (tmp_path / "big").stat().st_size <= 2**20
    )
    assert (await shell.run("ulimit -t")).startswith("7\n")
    assert len(await shell.run("head -c 50000 /dev/zero | tr '\\0' x")) < 1100


@pytest.mark.parametrize("command", ["echo \0", "x" * 3_000_000])
async def test_a_command_that_cannot_be_started_says_why(shell: Shell, command: str) -> None:
    with pytest.raises(ToolError, match="could not be started"):
        await shell.run(command)


async def test_a_full_workspace_is_told_and_can_only_be_emptied(tmp_path: Path) -> None:
    shell = Shell(tmp_path, CommandPolicy(False, limits=CommandLimits(workspace=2 * 2**20)))
    assert "full" not in await shell.run("head -c 1500000 /dev/zero > a")
    assert "exit code 0" not in await shell.run("head -c 1500000 /dev/zero > b")
    await shell.run("head -c 500000 /dev/zero > c; head -c 500000 /dev/zero > d")
    assert "The workspace is full: it may hold 2 MiB." in await shell.run("ls")
    assert "exit code 0" not in await shell.run("echo hello > e")
    assert "full" not in await shell.run("rm a b c d")
    assert (await shell.run("echo hello > e && cat e")).startswith("hello")


async def test_a_missing_workspace_is_told(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="could not be started"):
        await Shell(tmp_path / "gone").run("true")


@pytest.mark.parametrize("seconds", [0, -1, 10**9, "soon"])
async def test_an_impossible_time_is_refused(shell: Shell, seconds: object) -> None:
    with pytest.raises(ToolError, match="timeout_seconds"):
        await shell.run("true", timeout_seconds=seconds)


def test_an_interjection_lets_a_command_go_on_in_the_background() -> None:
    (tool,) = load_tools(["shell"])
    assert (tool.effect, tool.on_steer) == ("external", "background")

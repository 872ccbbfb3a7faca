"""Runs a command outside the sandbox and ends all of its processes with it, also those in sessions of their own.

A script of the standard library alone: it is started for each command, `command_supervisor.py STATUS PROGRAM …`. The
kernel gives it every process whose parent has ended (PR_SET_CHILD_SUBREAPER), so it finds them all among its
descendants.
"""

import ctypes
import os
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

GRACE = 0.3
"""Seconds that processes have to end, first by themselves and then after SIGTERM."""


def main(status: int, arguments: list[str]) -> int:
    # SIGTERM is for the command; SIGHUP says that the gateway has died.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGHUP, _gateway_died)
    _adopt_descendants()
    command = os.posix_spawn(
        arguments[0],
        arguments,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_CLOSE, status)],
    )
    code = 0
    try:
        while True:
            process, result = os.wait()
            if process == command:
                code = os.waitstatus_to_exitcode(result)
                break
        left = _end_rest()
    except _GatewayDied:
        _kill_rest()
        return 1
    os.write(status, f"{code} {int(left)}\n".encode())
    return code % 256


class _GatewayDied(Exception):
    pass


def _gateway_died(*_: object) -> None:
    raise _GatewayDied


def _adopt_descendants() -> None:
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return  # Not Linux: only processes of the command's own group are found.
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    prctl(PR_SET_PDEATHSIG, int(signal.SIGHUP), 0, 0, 0)


def _end_rest() -> bool:
    """Ends what the command has left running; whether there was anything."""
    if _all_ended(GRACE):
        return False
    _signal(signal.SIGTERM)
    if not _all_ended(GRACE):
        _kill_rest()
    return True


def _kill_rest() -> None:
    while not _all_ended(0.02):
        # Stopped first, so that none starts others while the list is read.
        _signal(signal.SIGSTOP)
        _signal(signal.SIGKILL)


def _all_ended(seconds: float) -> bool:
    """Whether there are no child processes any more, at the latest after the given time."""
    until = time.monotonic() + seconds
    while True:
        try:
            process, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if process == 0:
            if time.monotonic() > until:
                return False
            time.sleep(0.005)


def _signal(number: signal.Signals) -> None:
    for process in descendants(os.getpid()):
        try:
            os.kill(process, number)
        except (ProcessLookupError, PermissionError):
            continue


def descendants(root: int) -> list[int]:
    """The processes below `root`, nearest first; none where there is no /proc."""
    children: dict[int, list[int]] = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return []
    for name in names:
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    # The name of the program is in parentheses, and may contain some.
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue  # It has ended meanwhile.
            children.setdefault(parent, []).append(int(name))
    found = [root]
    for process in found:
        found += children.get(process, ())
    return found[1:]


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))

"""Process 1 of a container: the kernel makes it the parent of every process whose own parent has ended."""

from __future__ import annotations

import os
import signal

from gateway.cli.memory import hide_memory

FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
FIRST_PROCESS = 1


def leave_first_process() -> None:
    """Where this is process 1, goes on in a child process, and does nothing elsewhere. Process 1 hands signals to the
    child, collects every process that ends, and exits with the child's exit code (128 and the signal, if one ended it).

    To be called while there are no threads.
    """
    if os.getpid() != FIRST_PROCESS:
        return
    signals = {signal.SIGCHLD, *FORWARDED}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    child = os.fork()
    if child == 0:
        # A process group of its own: Ctrl-C in the container's terminal reaches process 1 alone, which hands it on.
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        return
    hide_memory()
    os._exit(_serve(child, signals))


def _serve(child: int, signals: set[signal.Signals]) -> int:
    """Returns the child's exit code."""
    while True:
        received = signal.sigwait(signals)
        if received != signal.SIGCHLD:
            os.kill(child, received)
        elif (status := _collect(child)) is not None:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _collect(child: int) -> int | None:
    """Collects the processes that have ended. The exit status of the child if it is one of them."""
    while True:
        process, status = os.waitpid(-1, os.WNOHANG)
        if process == child:
            return status
        if process == 0:
            return None

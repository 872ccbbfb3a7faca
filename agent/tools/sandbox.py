"""The sandbox of shell commands: bubblewrap with a read-only system, one writable workspace and namespaces of its own.

bubblewrap is Debian's package `bubblewrap`; its manual page is https://manpages.debian.org/bwrap.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.tools.process import NON_INTERACTIVE
from agent.worker_process import COMMAND_VARIABLES, passed_on

PROBE_SECONDS = 10.0

READ_ONLY_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store")
"""Programs and libraries, all of them readable."""

READ_ONLY_ETC = (
    "/etc/alternatives",
    "/etc/bash.bashrc",
    "/etc/ca-certificates",
    "/etc/fonts",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/magic",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/perl",
    "/etc/pki/ca-trust/extracted",
    "/etc/pki/tls/certs",
    "/etc/protocols",
    "/etc/python3",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/timezone",
)
"""What programs need of /etc, and nothing that could hold a secret."""

RESOLVER = "/etc/resolv.conf"
"""Only where there is a network."""

MIB = 1024 * 1024
SHARED_MEMORY = 64 * MIB
"""Bytes of /dev/shm."""


class SandboxUnavailable(Exception):
    """The message says for a person why commands cannot be run in a sandbox here."""


@dataclass(frozen=True, slots=True)
class CommandLimits:
    """What each process of a command may use, in bytes, processes and seconds of CPU time.

    `workspace` is the size of all files in the workspace beyond which commands cannot write, None for no limit.
    `temporary` is the size of /tmp. `processes` and `temporary` hold in the sandbox only. `output` is the number of
    bytes that the model reads. Addresses are four times the memory, unless they are not `limited_addresses`: a browser
    reserves a terabyte of them, and ends with SIGTRAP without it.
    """

    memory: int = 4096 * MIB
    file_size: int = 2048 * MIB
    processes: int = 512
    cpu_seconds: int = 3600
    output: int = 32_000
    temporary: int = 512 * MIB
    workspace: int | None = None
    limited_addresses: bool = True

    def script(self, *, sandboxed: bool) -> str:
        """A bash script that sets the limits; hard ones, so that a command cannot raise them."""
        # RLIMIT_DATA counts memory that can be written; programs reserve far more addresses than they use.
        limits = [
            f"-d {self.memory // 1024}",
            *([f"-v {4 * self.memory // 1024}"] if self.limited_addresses else []),
            f"-f {self.file_size // 1024}",
            f"-t {self.cpu_seconds}",
            "-c 0",
        ]
        if sandboxed:
            # Outside, the kernel counts all processes of the user, not those of the command.
            limits.append(f"-u {self.processes}")
        # One by one: bash stops at the first that cannot be set, such as one that is lower already.
        return "; ".join(f"ulimit {limit} 2>/dev/null" for limit in limits)


@dataclass(frozen=True, slots=True)
class CommandPolicy:
    """How commands are run. `variables` are the names of further environment variables that they are given.

    `hidden` are files and folders that commands never see, even where they are part of the system. `programs` are files
    and folders beside those of the system that they may read, `writable` such that they may change; `readable` are
    folders of the operator's, which may be anywhere.
    """

    sandboxed: bool = True
    network: bool = False
    limits: CommandLimits = field(default_factory=CommandLimits)
    variables: frozenset[str] = frozenset()
    hidden: tuple[Path, ...] = ()
    programs: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()

    def environment(self) -> dict[str, str]:
        given = passed_on(os.environ, COMMAND_VARIABLES | self.variables) | NON_INTERACTIVE
        # The gateway's own home and temporary folder do not exist in the sandbox.
        return given | {"HOME": "/tmp", "TMPDIR": "/tmp"} if self.sandboxed else given

    def arguments(self, command: str, workspace: Path, status: int) -> list[str]:
        """The program to start for a bash command line, with its arguments.

        It ends when the command has ended, with all of the command's processes; a command ends when its shell does. It
        writes the exit code to the file descriptor `status`, and whether other processes had to be ended.
        """
        shell = shutil.which("bash") or "/bin/sh"
        if self.sandboxed:
            return [*self._sandbox(shell, workspace.resolve()), shell, "-c", self._script(status), shell, command]
        limited = f'{_OOM_FIRST}; {self.limits.script(sandboxed=False)}; exec "$0" -c "$1"'
        supervisor = str(Path(__file__).with_name("command_supervisor.py"))
        return [sys.executable, "-I", "-S", supervisor, str(status), shell, "-c", limited, shell, command]

    def program(self, command: Sequence[str], workspace: Path) -> list[str]:
        """What to start for a program that runs in the sandbox until it is ended, with its arguments. Raises
        `SandboxUnavailable`."""
        shell = shutil.which("bash") or "/bin/sh"
        limited = f'{self.limits.script(sandboxed=True)}; exec "$0" "$@"'
        return [*self._sandbox(shell, workspace.resolve()), shell, "-c", limited, *command]

    def _script(self, status: int) -> str:
        """Runs the command and ends what it leaves. `kill -1` means every process of the sandbox but this one."""
        return (
            f"{self.limits.script(sandboxed=True)}; trap : TERM; exec {{errors}}>&2 2>/dev/null; "
            f'"$0" -c "$1" 2>&$errors {{errors}}>&- {status}>&-; code=$?; left=0; '
            "gone() { for _ in 1 2 3 4 5 6; do kill -0 -- -1 || return 0; sleep 0.05; done; return 1; }; "
            "gone || { left=1; kill -TERM -- -1; gone; }; "
            f'echo "$code $left" >&{status}; exit $code'
        )

    def _sandbox(self, shell: str, workspace: Path) -> Iterator[str]:
        # The first process is the kernel's first choice when memory runs out, and so are all that it starts.
        yield from (shell, "-c", f'{_OOM_FIRST}; exec "$0" "$@"', _program())
        yield from ("--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session")
        yield from ("--share-net",) if self.network else ()
        yield from ("--cap-drop", "ALL", "--hostname", "sandbox")
        for name in (*READ_ONLY_SYSTEM, *_optional_programs()):
            # A link on systems whose programs are all in /usr.
            yield from ("--symlink", os.readlink(name), name) if os.path.islink(name) else ("--ro-bind-try", name, name)
        yield from ("--size", str(self.limits.temporary), "--perms", "1777", "--tmpfs", "/tmp")
        # After /tmp, beneath which they may be.
        programs = [path for path in self.programs if not _is_visible(path)]
        for name in (*READ_ONLY_ETC, *((RESOLVER,) if self.network else ()), *map(str, programs)):
            yield from ("--ro-bind-try", name, name)
        covered = [path for path in map(Path.resolve, self.hidden) if _is_visible(path, *programs)]
        for path in covered:
            yield from ("--tmpfs", str(path)) if path.is_dir() else ("--ro-bind", "/dev/null", str(path))
        # Read-only: root without capabilities may still write to files of root, such as kernel settings.
        yield from ("--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev", "--remount-ro", "/dev")
        yield from ("--size", str(SHARED_MEMORY), "--perms", "1777", "--tmpfs", "/dev/shm")
        for folder in map(Path.resolve, self.readable):
            yield from ("--ro-bind-try", str(folder), str(folder))
        for folder in (workspace, *self.writable):
            yield from ("--bind", str(folder), str(folder))
        for read_only in ("/", *(str(path) for path in covered if path.is_dir())):
            yield from ("--remount-ro", read_only)
        yield from ("--chdir", str(workspace), "--")


_OOM_FIRST = "echo 1000 2>/dev/null >/proc/self/oom_score_adj"


OPTIONAL_FOLDERS = ("bin", "lib", "lib64", "share")
"""What is shown of a folder like /opt/conda itself: settings and data of services are beside them."""


def _optional_programs() -> list[str]:
    """Folders of /opt that hold programs of the search path, such as /opt/app/venv, and links that lead to them."""
    entries = [entry for entry in os.environ.get("PATH", "").split(os.pathsep) if os.path.isabs(entry)]
    paths = [Path(path) for entry in entries for path in (os.path.normpath(entry), os.path.realpath(entry))]
    shown = list(dict.fromkeys(folder for path in paths for folder in _folders_of(path)))
    return [
        str(folder) for folder in shown if not any(folder != each and folder.is_relative_to(each) for each in shown)
    ]


def _folders_of(entry: Path) -> list[Path]:
    """The folders that programs of this entry of the search path need, or the link on the way to it."""
    if entry.parts[:2] != ("/", "opt") or len(entry.parts) < 3:
        return []
    prefix = entry.parent if entry.name in ("bin", "sbin") and len(entry.parts) > 3 else entry
    links = [folder for folder in (*reversed(prefix.parents), prefix) if len(folder.parts) > 2 and folder.is_symlink()]
    if links:
        return links[:1]
    if len(prefix.parts) > 3 or prefix.name == "bin":
        return [prefix]
    return [prefix / name for name in dict.fromkeys((*OPTIONAL_FOLDERS, entry.name)) if (prefix / name).exists()]


def python_environment(prefix: Path) -> list[Path]:
    """What programs of a Python environment need of its folder, and not what is beside that, such as the settings in a
    folder that is a virtual environment too."""
    names = ("bin", "lib", "lib64", "pyvenv.cfg")
    return [prefix / name for name in names if (prefix / name).exists()]


def _is_visible(path: Path, *programs: Path) -> bool:
    """Whether a file or folder is part of what the sandbox shows of the system, or of the programs."""
    shown: tuple[str | Path, ...] = (*READ_ONLY_SYSTEM, *_optional_programs(), *programs)
    return path.exists() and any(path.is_relative_to(os.path.realpath(folder)) for folder in shown)


def _program() -> str:
    found = shutil.which("bwrap")
    if found is None:
        raise SandboxUnavailable("the program bwrap is not installed (Debian and Ubuntu: apt install bubblewrap)")
    return found


async def probe_sandbox() -> None:
    """Runs a command in a sandbox. Raises `SandboxUnavailable` with what is in the way."""
    if shutil.which("bash") is None:
        raise SandboxUnavailable("the program bash is not installed")
    policy = CommandPolicy()
    with contextlib.ExitStack() as pipe:
        reading, writing = os.pipe()
        pipe.callback(os.close, reading)
        pipe.callback(os.close, writing)
        try:
            process = await asyncio.create_subprocess_exec(
                *policy.arguments("true", Path("/usr"), writing),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=policy.environment(),
                pass_fds=(writing,),
                start_new_session=True,
            )
        except OSError as error:
            raise SandboxUnavailable(f"bwrap cannot be started: {error}") from error
        errors = await _end_of_probe(process)
    if process.returncode:
        text = errors.strip() or f"it ended with code {process.returncode}"
        raise SandboxUnavailable(f"bwrap cannot make one on this system: {text}")


async def _end_of_probe(process: asyncio.subprocess.Process) -> str:
    """What it wrote to stderr."""
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            _, errors = await process.communicate()
            return errors.decode(errors="replace")
    except TimeoutError:
        raise SandboxUnavailable(f"bwrap did not start a command within {PROBE_SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

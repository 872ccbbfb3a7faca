"""MCP servers from settings. Without any, nothing of the client is loaded."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

from agent.masking import Mask
from agent.tools.sandbox import (
    MIB,
    CommandLimits,
    CommandPolicy,
    SandboxUnavailable,
    probe_sandbox,
    python_environment,
)
from agent.worker_process import COMMAND_VARIABLES, passed_on
from config.load import Configuration
from config.mcp import McpProgramSettings, McpSettings, McpUrlSettings
from gateway.assembly.custom_tools import BUILT_IN
from gateway.assembly.models import is_demo
from gateway.assembly.versions import Version, versions
from gateway.inbound.access import AccessPolicy
from gateway.lifecycle.connectors import untold
from gateway.lifecycle.shared_parts import SharedParts
from gateway.outbound.wording import escaped
from gateway.private_files import private_folder
from gateway.store import Store
from gateway.store.errors import StoreFailed
from gateway.turns.mcp import Mcp, NoMcp

if TYPE_CHECKING:
    from agent.custom_tools import CustomTool
    from agent.mcp.account import Accounts, ClientSettings, OpenLink
    from agent.mcp.personal import PersonalServers
    from agent.mcp.server import McpServer, Policy
    from agent.mcp.sources import Source
    from gateway.inbound.sign_ins import SignIns
    from gateway.turns.mcp_accounts import AccountRows

log = logging.getLogger(__name__)

LIMITS = CommandLimits(memory=8192 * MIB, temporary=1024 * MIB, cpu_seconds=30 * 86400, limited_addresses=False)
"""Of a server in the sandbox, which may run for weeks, and may start a browser."""

PER_PERSON = "per person; sign in with /mcp login {name}"

ACCOUNTS = "mcp-tokens"
"""The folder in the data directory with the tokens of those who are signed in, unless they are in the store, and with
what the servers of single people offer."""


class SignInLinks:
    """The links by which people sign in at servers, made once a server is configured."""

    def __init__(
        self,
        configuration: Configuration,
        store: Store,
        policy: AccessPolicy,
        mask: Mask,
        *,
        public_url: str | None,
        local_url: str | None,
        changed: Callable[[], None],
    ) -> None:
        """The addresses are those of the web server, for people elsewhere and on this machine. `mask` gets to know the
        tokens of those who are signed in. `changed` tells other workers to look."""
        self._configuration = configuration
        self._store = store
        self._policy = policy
        self._mask = mask
        self._public_url = public_url
        self._local_url = local_url
        self._changed = changed
        self._accounts: Accounts | None = None
        self.made: SignIns | None = None

    async def make(self) -> tuple[SignIns, Accounts]:
        """Raises `StoreError`."""
        if self.made is None or self._accounts is None:
            from agent.mcp.errors import AccountsUnavailable
            from gateway.inbound.sign_ins import SignIns

            self._accounts = accounts(self._configuration, self._store, self._changed)
            if self._store.is_shared:
                await _take_over_files(self._configuration.home / ACCOUNTS, self._store)
            try:
                await self._accounts.store.look()
            except AccountsUnavailable as error:
                raise StoreFailed(str(error)) from error
            self._mask.follow(self._accounts)
            self.made = SignIns(self._store, self._policy, self._public_url, changed=self._changed)
            self.made.local_url = self._local_url
        return self.made, self._accounts

    async def settle(self) -> None:
        """At the end: waits a moment for tokens that are on their way."""
        if self._accounts is not None:
            await self._accounts.settle()


async def _take_over_files(folder: Path, store: Store) -> None:
    """Accounts in files, from when this gateway was the only one on its database, are kept in the store, unless there
    is one already: whatever takes a token in a file for a new one would end that in the store."""
    for file in await asyncio.to_thread(lambda: sorted(folder.glob("*.json"))):
        server, _, person = file.stem.partition(".")
        try:
            content = json.loads(await asyncio.to_thread(file.read_bytes))
        except (OSError, ValueError) as error:
            log.warning("the account in %s cannot be read: %s", file, error)
            continue
        if isinstance(content, dict):
            await store.add_mcp_account(server, person, content)
            log.info("MCP server %s: the account in a file of this machine is in the database now", server)
        await asyncio.to_thread(file.unlink, missing_ok=True)


async def open_servers(
    configuration: Configuration, links: SignInLinks, policy: AccessPolicy, shared: SharedParts, stack: AsyncExitStack
) -> Mcp:
    """All servers. The stack ends them; one whose section is the same goes on. The demo has an example."""
    if not configuration.settings.mcp:
        return _without_settings(configuration, stack)
    from agent.mcp.personal import Servers
    from gateway.inbound.mcp_commands import McpCommands

    sign_ins, kept = await links.make()
    of_all = await open_mcp(configuration, stack, sign_ins.open, shared, kept)
    personal = await open_personal_mcp(configuration, stack, sign_ins.open, shared, kept)
    servers = Servers({server.name: server for server in of_all}, {servers.name: servers for servers in personal}, kept)
    # With the same servers, the sign-ins that wait for people go on.
    made_of = (of_all, personal)
    return await shared.use("sign-ins at MCP servers", made_of, lambda: McpCommands(servers, sign_ins, policy), stack)


def _without_settings(configuration: Configuration, stack: AsyncExitStack) -> Mcp:
    """None, but an example for the demo where there is no settings file."""
    if configuration.file is not None or not is_demo(configuration.settings):
        return NoMcp()
    from gateway.assembly.demo_mcp import demo_mcp

    return demo_mcp(stack)


async def open_mcp(
    configuration: Configuration,
    stack: AsyncExitStack,
    open_link: OpenLink | None = None,
    shared: SharedParts | None = None,
    kept: Accounts | None = None,
) -> tuple[McpServer, ...]:
    """The servers that everybody shares, which start in the background; the stack ends them. `open_link` leads to a
    person who is to sign in; `kept` are the accounts of those who have. A server of the `shared` parts that has the
    same section goes on."""
    settings = {name: given for name, given in configuration.settings.mcp.items() if not _is_personal(given)}
    if not settings:
        return ()
    from agent.mcp.server import McpServer, Timing

    missing = await _missing_sandbox(settings.values())
    folder = configuration.home / "mcp"
    private_folder(folder)
    shared, kept = shared or SharedParts(), kept or accounts(configuration)

    def make(name: str, given: McpSettings) -> McpServer:
        return McpServer(
            name,
            _source(configuration, name, given, kept, sandboxed=not missing),
            _policy(given),
            Timing(start=given.start_timeout),
            known=folder / f"{name}.json",
            open_link=open_link,
        )

    return tuple(
        [
            await shared.use(
                f"MCP server {name}",
                (given, missing, _code(configuration, given)),
                partial(make, name, given),
                stack,
            )
            for name, given in settings.items()
        ]
    )


def _code(configuration: Configuration, given: McpSettings) -> tuple[Version, ...]:
    """The versions of the files that the command names."""
    if not isinstance(given, McpProgramSettings):
        return ()
    base = _base(configuration)
    return versions(path for part in given.command if (path := base / part).is_file())


def _base(configuration: Configuration) -> Path:
    """The folder in which a server's program runs."""
    return Path.cwd() if configuration.file is None else configuration.file.absolute().parent


async def open_personal_mcp(
    configuration: Configuration, stack: AsyncExitStack, open_link: OpenLink, shared: SharedParts, kept: Accounts
) -> tuple[PersonalServers, ...]:
    """The servers per person; the stack ends them. `kept` are the accounts of people."""
    settings = {name: given for name, given in configuration.settings.mcp.items() if _is_personal(given)}
    if not settings:
        return ()
    from agent.mcp.personal import PersonalServers

    private_folder(configuration.home / ACCOUNTS)
    return tuple(
        [
            await shared.use(
                f"MCP server {name}",
                given,
                partial(PersonalServers, name, partial(_of_person, configuration, open_link, kept, name)),
                stack,
            )
            for name, given in settings.items()
        ]
    )


def _of_person(configuration: Configuration, open_link: OpenLink, kept: Accounts, name: str, person: str) -> McpServer:
    from agent.mcp.account import tools_file
    from agent.mcp.server import McpServer, Timing
    from agent.mcp.sources import HttpSource

    given = configuration.settings.mcp[name]
    assert isinstance(given, McpUrlSettings)
    account = kept.personal(name, person, given.url, client_settings(given))
    return McpServer(
        name,
        HttpSource(given.url, _headers(given), account=account),
        _policy(given),
        Timing(start=given.start_timeout),
        known=tools_file(configuration.home / ACCOUNTS, account.key),
        open_link=open_link,
        personal=True,
    )


def accounts(
    configuration: Configuration, rows: AccountRows | None = None, changed: Callable[[], None] = untold
) -> Accounts:
    """Who is signed in at MCP servers: in files of the data directory, or, where several processes share a database, in
    its `rows`; without them each call connects to it. `changed` tells other workers to look."""
    from agent.mcp.account import Accounts

    folder, store = configuration.home / ACCOUNTS, configuration.settings.store
    if store.file is not None:
        from agent.mcp.account_files import FileAccounts

        return Accounts(FileAccounts(folder))
    from gateway.turns.mcp_accounts import StoredAccounts

    if rows is None:
        from gateway.store.offline import OfflineAccounts

        rows = OfflineAccounts(store.url)
    return Accounts(StoredAccounts(rows, folder, changed))


def client_settings(given: McpUrlSettings) -> ClientSettings:
    from agent.mcp.account import ClientSettings

    secret = given.client_secret
    return ClientSettings(given.client_id or "", "" if secret is None else secret.get_secret_value(), given.scope or "")


def personal_servers(configuration: Configuration) -> dict[str, str]:
    """What is to be said of the servers per person, by name."""
    return {
        name: PER_PERSON.format(name=name) for name, given in configuration.settings.mcp.items() if _is_personal(given)
    }


def _is_personal(given: McpSettings) -> bool:
    return isinstance(given, McpUrlSettings) and given.per_person


def mcp_problems(servers: Iterable[McpServer], own: Iterable[CustomTool] = ()) -> dict[str, str]:
    """What does not work at the moment, by server, as Markdown. `own` are the operator's tools, whose names count."""
    origins = {each.tool.name: each.origin for each in own}
    found: dict[str, str] = {}
    for server in servers:
        status = server.status
        taken = [escaped(name_taken(tool.name, origins[tool.name]), 300) for tool in server if tool.name in origins]
        if status.state != "running" or status.problems or taken:
            found[f"MCP server {server.name}"] = "; ".join([*map(escaped, status.parts), *taken])
    return found


def name_taken(name: str, origin: str) -> str:
    return f"its tool {name} is not offered, because a tool of yours has that name: {origin}"


async def _missing_sandbox(servers: Iterable[McpSettings]) -> str:
    """Why there is no sandbox; "" if there is one, or nobody wants one."""
    wanted = [each for each in servers if isinstance(each, McpProgramSettings) and each.sandbox == "auto"]
    if not wanted:
        return ""
    try:
        await probe_sandbox()
    except SandboxUnavailable as error:
        log.warning(
            "MCP servers run outside a sandbox, with everything that the gateway's user may read: %s. "
            'sandbox = "none" in their sections says that this is meant',
            error,
        )
        return str(error)
    return ""


def _policy(given: McpSettings) -> Policy:
    from agent.mcp.rules import RuleChanges
    from agent.mcp.server import Policy

    changes = {
        name: RuleChanges(rules.effect, rules.approval, rules.on_steer, rules.timeout, rules.foreign)
        for name, rules in given.tools.items()
    }
    return Policy(
        include=given.include,
        exclude=given.exclude,
        changes=changes,
        timeout=given.timeout,
        trusts_annotations=given.annotations == "trust",
        taken=BUILT_IN,
        sampling=given.sampling,
        elicitation=given.elicitation,
    )


def _source(configuration: Configuration, name: str, given: McpSettings, kept: Accounts, *, sandboxed: bool) -> Source:
    from agent.mcp.sources import HttpSource, ProcessSource

    match given:
        case McpUrlSettings():
            account = kept.shared(name, given.url, client_settings(given))
            # A token of the settings takes the place of a sign-in.
            has_token = any(header.lower() == "authorization" for header in given.headers)
            return HttpSource(given.url, _headers(given), account=None if has_token else account)
        case McpProgramSettings():
            base = _base(configuration)
            own = {key: value.get_secret_value() for key, value in given.variables.items()}
            environment = passed_on(os.environ, COMMAND_VARIABLES | frozenset(given.environment)) | own
            if not sandboxed or given.sandbox == "none":
                return ProcessSource(name, tuple(given.command), environment, base)
            return _in_sandbox(configuration, name, given, environment, base)


def _headers(given: McpUrlSettings) -> dict[str, str]:
    return {key: value.get_secret_value() for key, value in given.headers.items()}


def _in_sandbox(
    configuration: Configuration, name: str, given: McpProgramSettings, environment: Mapping[str, str], base: Path
) -> Source:
    """The program in a sandbox with the network. Its folder, which is its home too, keeps what it downloads."""
    from agent.mcp.sources import ProcessSource

    folder = configuration.home / "mcp" / name
    private_folder(folder)
    command = [_absolute(part, base) for part in given.command]
    for path in (*given.readable, *given.writable):
        if not path.exists():
            log.warning("MCP server %s: %s does not exist, so it is not in its sandbox", name, path)
    policy = CommandPolicy(
        network=True,
        limits=LIMITS,
        programs=tuple(_program_files(command[0])),
        readable=tuple(path for path in (*_named_files(command), *given.readable) if path.exists()),
        writable=tuple(path for path in given.writable if path.exists()),
    )
    home = {"HOME": str(folder), "TMPDIR": "/tmp"}
    variables = {**environment, **{key: value for key, value in home.items() if key not in given.variables}}
    return ProcessSource(name, tuple(policy.program(command, folder)), variables, folder)


def _absolute(part: str, base: Path) -> str:
    """A part of the command; a file beside the settings by its absolute path, as the program runs elsewhere."""
    path = base / part
    return str(path) if not part.startswith("-") and ("/" in part or path.suffix) and path.is_file() else part


def _program_files(program: str) -> Iterator[Path]:
    """The program, and what it needs of its Python environment if it is of one."""
    found = which(program)
    if found is None:
        return
    path = Path(found)
    yield path
    if (path.parent.parent / "pyvenv.cfg").is_file():
        yield from (*python_environment(path.parent.parent), *python_environment(Path(sys.base_prefix)))


def _named_files(command: Sequence[str]) -> Iterator[Path]:
    yield from (Path(part) for part in command[1:] if os.path.isabs(part) and Path(part).is_file())

"""Links with which people sign in at MCP servers: each is sent to one person alone, is used once, and expires. At
whichever worker it is opened, the one that has sent it goes on."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from agent.hook import HookContext
from agent.log import Notice
from agent.mcp.account import Callback
from agent.mcp.errors import McpError
from channels.address import Address, Sender
from gateway.inbound.access import AccessPolicy
from gateway.lifecycle.connectors import untold
from gateway.outbound.wording import escaped
from gateway.sessions import session_key
from gateway.store import records
from gateway.store.errors import StoreError
from gateway.turns.mcp import Tell

log = logging.getLogger(__name__)

LINK_TIME = 600.0
"""Seconds in which a link must be used."""

ON_THIS_MACHINE = ("web", "terminal")
"""Channels whose people reach a server of this machine."""

NO_ADDRESS = (
    "the server offers no sign-in with a code, so that signing in needs an address of this gateway that people can "
    "open: [web] url in the settings. Without it, the operator can sign in with the command line: "
    "interject mcp login {server}"
)
ADMINS_ONLY = "only an admin can sign in there, because everybody uses the account. An admin writes /mcp login {server}"
WRITE_DIRECTLY = "a link to sign in is sent in a direct chat only. Write /mcp login {server} to the bot directly"
REFUSED = "the sign-in was refused ({error})"
NOT_USED = "nobody has signed in within 10 minutes"
REPLACED = "a newer link was sent; that one counts"


class SignInStore(Protocol):
    async def turn(self, turn_id: str) -> records.Turn: ...
    async def direct_chats(self, channel: str, people: Collection[str]) -> tuple[tuple[str, Address], ...]: ...
    async def begin_mcp_sign_in(
        self, ticket: str, server: str, person: str, who: str, url: str, state: str, lifetime: timedelta
    ) -> None: ...
    async def find_mcp_sign_in(self, ticket: str) -> records.McpSignIn | None: ...
    async def open_mcp_sign_in(self, ticket: str, browser: str) -> str | None: ...
    async def answer_mcp_sign_in(self, state: str, browser: str, answer: Mapping[str, Any]) -> bool: ...
    async def mcp_sign_in_answers(self, tickets: Collection[str]) -> dict[str, dict[str, Any] | None]: ...
    async def end_mcp_sign_in(self, ticket: str) -> None: ...


@dataclass(eq=False)
class SignInLink:
    """A link for one person. Implements `agent.mcp.account.Link`. `ticket` is in the address that they get."""

    links: SignIns
    server: str
    person: str
    who: str
    address: Address
    reply_to: str | None
    redirect_uri: str | None
    document: str | None
    without_code: str
    expires_at: float
    """By the clock of `time.monotonic`."""
    url: str = ""
    state: str = ""
    ticket: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    def __post_init__(self) -> None:
        self.answer: asyncio.Future[Callback] = asyncio.get_running_loop().create_future()

    async def show(self, url: str) -> None:
        """Sends the person the link."""
        self.url, self.state = url, (parse_qs(urlsplit(url).query).get("state") or [""])[0]
        assert self.redirect_uri is not None
        base = self.redirect_uri.removesuffix("/oauth/callback")
        text = (
            f"🔑 Sign in at {escaped(self.server)}: <{base}/oauth/start?ticket={self.ticket}>\n\n"
            "The link is for you alone: do not pass it on. It is valid for 10 minutes."
        )
        await self.links.send(self, text)

    async def show_code(self, url: str, code: str, seconds: float) -> None:
        """Sends the person the address and the code. The link ends with the code."""
        self.expires_at = min(self.expires_at, time.monotonic() + seconds)
        minutes = max(1, round((self.expires_at - time.monotonic()) / 60))
        text = (
            f"🔑 Sign in at {escaped(self.server)}: open <{url}> on any device, and enter the code "
            f"**{escaped(code)}** there.\n\n"
            "The code is for you alone: do not pass it on, and enter it only if you have asked for it just now. It is "
            f"valid for {minutes} minute{'' if minutes == 1 else 's'}."
        )
        await self.links.send(self, text)

    async def returned(self) -> Callback:
        try:
            async with asyncio.timeout(self.expires_at - time.monotonic()):
                return await self.answer
        except TimeoutError:
            raise McpError(NOT_USED) from None
        finally:
            await self.links.end(self)


class SignIns:
    """The links that wait, by their tickets."""

    def __init__(
        self,
        store: SignInStore,
        access: AccessPolicy,
        public_url: str | None,
        *,
        link_time: float = LINK_TIME,
        changed: Callable[[], None] = untold,
    ) -> None:
        """`public_url` is the address of the web server for people elsewhere. `link_time` is in seconds. `changed` is
        called when other workers are to `look`."""
        self._link_time = link_time
        self._changed = changed
        self._store = store
        self._access = access
        self._public = public_url
        self.local_url: str | None = None
        """Its address on this machine, once it listens."""
        self.tell: Tell | None = None
        """What sends messages, once there is a gateway."""
        self._links: dict[str, SignInLink] = {}

    async def open(self, server: str, asked: HookContext, *, personal: bool) -> SignInLink:
        """For a call in a turn: a link for whoever began it. Raises `McpError`."""
        try:
            turn = await self._store.turn(asked.run_id)
        except LookupError:
            raise McpError("nobody is here who could sign in") from None
        return await self.link(server, turn.address, turn.principal, turn.reply_to, personal=personal)

    async def link(
        self, server: str, address: Address, sender: Sender, reply_to: str | None, *, personal: bool
    ) -> SignInLink:
        """A link for this person. Raises `McpError` with what to do instead."""
        if not personal and not self._access.manages(address, sender):
            raise McpError(ADMINS_ONLY.format(server=server))
        where = await self._private(address, sender)
        if where is None:
            raise McpError(WRITE_DIRECTLY.format(server=server))
        base = self._base(address.channel)
        redirect_uri = None if base is None else f"{base}/oauth/callback"
        document = f"{base}/oauth/client.json" if base is not None and base.startswith("https://") else None
        person = f"{address.channel}:{sender.id}"
        reply_to = reply_to if where == address else None
        until = time.monotonic() + self._link_time
        without_code = NO_ADDRESS.format(server=server)
        return SignInLink(
            self, server, person, sender.name, where, reply_to, redirect_uri, document, without_code, until
        )

    def _base(self, channel: str) -> str | None:
        return (self._public or "").rstrip("/") or (self.local_url if channel in ON_THIS_MACHINE else None)

    async def _private(self, address: Address, sender: Sender) -> Address | None:
        """Where only this person reads."""
        if address.kind == "direct":
            return address
        chats = await self._store.direct_chats(address.channel, (sender.id.lower(),))
        return chats[-1][1] if chats else None

    async def send(self, link: SignInLink, text: str) -> None:
        """Sends the person this text; the link waits from now on, in the place of an earlier one. Raises `McpError`."""
        assert self.tell is not None, "there is no gateway yet"
        lifetime = timedelta(seconds=link.expires_at - time.monotonic())
        try:
            await self._store.begin_mcp_sign_in(
                link.ticket, link.server, link.person, link.who, link.url, link.state, lifetime
            )
            self._links[link.ticket] = link
            await self.look()
        except StoreError as error:
            raise McpError(f"the link cannot be stored: {error}") from error
        self._changed()
        await self.tell.send(
            session_key(link.address), link.address, link.reply_to, Notice(text), f"sign-in:{link.ticket}"
        )

    async def end(self, link: SignInLink) -> None:
        """Nobody waits for it any more."""
        self._links.pop(link.ticket, None)
        try:
            await self._store.end_mcp_sign_in(link.ticket)
        except StoreError as error:
            log.warning("a link to sign in at %s ends only with its time: %s", link.server, error)

    async def look(self) -> None:
        """Goes on with the links with which browsers have come back, and ends those in whose place there are newer
        ones, at whichever worker that was. Raises `StoreError`."""
        if not self._links:
            return
        waiting = dict(self._links)
        answers = await self._store.mcp_sign_in_answers(tuple(waiting))
        for ticket, link in waiting.items():
            if time.monotonic() >= link.expires_at:
                self._links.pop(ticket, None)
            elif link.answer.done():
                continue
            elif ticket not in answers:
                link.answer.set_exception(McpError(REPLACED))
            elif (answer := answers[ticket]) is not None:
                _resolve(link, answer)

    # What browsers ask

    async def find(self, ticket: str) -> records.McpSignIn | None:
        """A link that waits. Raises `StoreError`."""
        return await self._store.find_mcp_sign_in(ticket)

    async def begin(self, ticket: str, browser: str) -> str | None:
        """The person goes on in this browser ("": one without a cookie); the secret that it is to show afterwards. None
        if no such link waits. Raises `StoreError`."""
        return await self._store.open_mcp_sign_in(ticket, browser)

    async def come_back(self, query: Mapping[str, str], browser: str) -> bool:
        """Takes what the authorization server sent with the browser. False if no link waits for that, in that browser:
        a link that was used, replaced or has expired, another person's, or none of ours. Raises `StoreError`."""
        if "error" in query or not query.get("code"):
            answer = {"error": query.get("error", "no code")}
        else:
            answer = {key: query[key] for key in ("code", "iss") if key in query}
        if not await self._store.answer_mcp_sign_in(query.get("state", ""), browser, answer):
            return False
        await self.look()
        self._changed()
        return True


def _resolve(link: SignInLink, answer: Mapping[str, Any]) -> None:
    if "code" in answer:
        link.answer.set_result(Callback(answer["code"], link.state, answer.get("iss")))
        return
    error = str(answer["error"])
    words = error.replace("_", " ") if error.replace("_", "").isalpha() and len(error) < 50 else "unknown error"
    link.answer.set_exception(McpError(REFUSED.format(error=words)))

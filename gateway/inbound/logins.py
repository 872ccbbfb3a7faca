"""People who are signed in to the web server: by `/login` of the chat platforms, with a link that is used once, or by a
proxy before the server."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar
from uuid import uuid4

from agent.log import Notice
from channels.address import Address, Sender
from channels.channel import Channel, ChannelError, GroupDirectory
from gateway.inbound.access import AccessPolicy
from gateway.inbound.memberships import Memberships
from gateway.inbound.proxy_names import ProxyNames
from gateway.outbound.notices import Notices
from gateway.store.overview import Place
from gateway.store.records import Command, LoginLink, WebSession
from gateway.turns.roles import Role

K = TypeVar("K")
V = TypeVar("V")

WEB = "web"
"""The channel of people whom a proxy signs in."""

NAME = "login"
END = "end"
"""The argument of `/login` that ends the person's sessions."""

MAX_AGE = 5.0
"""Seconds for which the conversations of a person are not read again."""

GROUPS_AGE = 60.0
"""Seconds for which the platform is not asked again in which groups a person is."""

MAX_KNOWN = 1000

DIRECTLY = "The link is for you alone. Write `/login` to me in a direct chat."
PROGRAMS = "Programs use their key."
OWNER = "`interject web-token show`, in a terminal of this machine, prints the link with which the owner signs in{at}."
BY_PROXY = "You are signed in already, by the proxy before this server."
NO_ADDRESS = (
    "There is no address that you could open. The operator sets it in the settings, and restarts the gateway: "
    '`url = "https://chat.example.com"` in the section [web], the address of the web server behind a reverse proxy.'
)
LINK = (
    "🔑 Sign in: <{url}/sign-in#{code}>\n\n"
    "The link is for you alone: do not pass it on. It works once, within 5 minutes."
)
SIGNED_IN = "A browser is signed in for you now. If that was not you: `/login end` signs out every browser."


class LoginStore(Protocol):
    async def create_login_link(self, session: str, channel: str, sender: Sender) -> str: ...
    async def take_login_link(self, code: str) -> LoginLink | None: ...
    async def address_of(self, session: str) -> Address | None: ...
    async def begin_web_session(self, channel: str, sender: Sender) -> str: ...
    async def web_session(self, secret: str) -> WebSession | None: ...
    async def end_web_session(self, secret: str) -> None: ...
    async def end_web_sessions(self, channel: str, sender: str) -> int: ...
    async def sessions_of(self, person: str) -> tuple[str, ...]: ...
    async def places(self, keys: Collection[str]) -> dict[str, Place]: ...


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A person of a channel, with the role that they have there now. `accounts` are the ids of the person under which
    there are conversations of theirs on the web channel, their own one first."""

    channel: str
    sender: Sender
    role: Role
    accounts: tuple[str, ...] = ()


class Logins:
    """`url` is the address of the web server for people elsewhere, "" if there is none; `local_url` that on this
    machine, for the owner alone."""

    def __init__(
        self, store: LoginStore, access: AccessPolicy, channels: Mapping[str, Channel], notices: Notices
    ) -> None:
        self.url = ""
        self.local_url = ""
        self.proxy_names = ProxyNames()
        self._store = store
        self._access = access
        self._channels = channels
        self._notices = notices
        self._memberships = Memberships(channels)
        self._conversations: OrderedDict[tuple[str, str], tuple[float, tuple[str, ...]]] = OrderedDict()
        self._people: OrderedDict[tuple[str, str], tuple[float, Sender]] = OrderedDict()

    async def login(self, command: Command) -> str:
        """Answers with a link, in a direct chat only."""
        channel, sender = command.address.channel, command.sender
        if self._access.programs.is_program(sender.id):
            return PROGRAMS
        if self._access.is_owner(channel, sender):
            at = self.url or self.local_url
            return OWNER.format(at=f" at <{at}>" if at else "")
        if channel == WEB:
            return BY_PROXY
        if command.arguments.strip().lower() == END:
            count = await self._store.end_web_sessions(channel, sender.id)
            return f"{count} {'browser is' if count == 1 else 'browsers are'} signed out."
        if command.address.kind != "direct":
            return DIRECTLY
        if not self.url:
            return NO_ADDRESS
        code = await self._store.create_login_link(command.session, channel, sender)
        return LINK.format(url=self.url, code=code)

    async def sign_in(self, code: str) -> str | None:
        """The secret of a new session; None if the link was used, has expired, or its person has no access any more."""
        link = await self._store.take_login_link(code)
        address = None if link is None else await self._store.address_of(link.session)
        if link is None or address is None:
            return None
        secret = await self._store.begin_web_session(link.channel, link.sender)
        if await self.find(secret) is None:
            await self._store.end_web_session(secret)
            return None
        await self._notices.send(link.session, address, None, Notice(SIGNED_IN), f"signed-in:{uuid4().hex}")
        return secret

    async def sign_out(self, secret: str) -> None:
        await self._store.end_web_session(secret)

    async def find(self, secret: str) -> SignedIn | None:
        """Whose session it is; None if it has ended, or the person has no access any more."""
        session = await self._store.web_session(secret)
        if session is None:
            return None
        sender = await self._with_groups(session.channel, session.sender)
        role = self._access.current_role(session.channel, sender, is_paired=session.is_paired)
        return None if role is None else SignedIn(session.channel, sender, role)

    def by_proxy(self, name: str) -> SignedIn | None:
        """The person whom a trusted proxy names; None if the settings do not admit them."""
        accounts = self.proxy_names.ids(name)
        sender = Sender(accounts[0], name)
        if not self._access.has_settings(WEB):
            return None
        role = self._access.current_role(WEB, sender, is_paired=False)
        return None if role is None else SignedIn(WEB, sender, role, accounts)

    async def conversations(self, channel: str, sender: str) -> tuple[str, ...]:
        """The sessions of the channel in which the person with this id has written: direct chats, and groups that they
        are in. Copies of what they have written may be in others, which are not theirs."""
        known = self._conversations.get((channel, sender))
        if known is None or time.monotonic() - known[0] > MAX_AGE:
            known = (time.monotonic(), await self._open_conversations(channel, sender))
            _keep(self._conversations, (channel, sender), known, MAX_KNOWN)
        return known[1]

    async def _open_conversations(self, channel: str, sender: str) -> tuple[str, ...]:
        places = await self._store.places(await self._store.sessions_of(f"{channel}:{sender}"))
        own = {key: place.address for key, place in places.items() if place.address.channel == channel}
        readable = await self._memberships.open_to(own.values(), sender)
        return tuple(key for key, address in own.items() if address in readable)

    async def _with_groups(self, channel: str, sender: Sender) -> Sender:
        """The person with the groups that they are in, as far as the platform says so; if it does not, an outsider."""
        directory = self._channels.get(channel)
        if not isinstance(directory, GroupDirectory):
            return sender
        known = self._people.get((channel, sender.id))
        if known is None or time.monotonic() - known[0] > GROUPS_AGE:
            try:
                found = await directory.find_person(sender)
            except ChannelError:
                return replace(sender, membership="outsider")
            known = (time.monotonic(), found or replace(sender, membership="outsider"))
            _keep(self._people, (channel, sender.id), known, MAX_KNOWN)
        return known[1]


def _keep(known: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    known[key] = value
    known.move_to_end(key)
    while len(known) > most:
        known.popitem(last=False)

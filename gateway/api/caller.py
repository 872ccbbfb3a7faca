"""Who sends a request, and what they may do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, get_args

from fastapi import Depends, Request

from agent.toolset import matches
from channels.address import Address, Sender
from channels.web.parse import LOCAL, OWNER
from gateway.api.problems import Problem
from gateway.inbound.api_keys import OWNER as OWNER_ELSEWHERE
from gateway.store.api_keys import SENDER
from gateway.store.records import ApiKeyScope

WEB = "web"
SCOPES: tuple[ApiKeyScope, ...] = get_args(ApiKeyScope)


@dataclass(frozen=True, slots=True)
class Caller:
    """`sender` is the author of what the caller writes. `conversations` and `agents` are patterns of the only
    conversation ids and agents' names that the caller may use; None: all. `channel` is that of a person who is signed
    in, whose rights end with it; "" for the owner and for programs. `account` is that of the web channel in which new
    conversations of the caller are."""

    sender: Sender
    scope: ApiKeyScope
    conversations: tuple[str, ...] | None = None
    agents: tuple[str, ...] | None = None
    channel: str = ""
    account: str = LOCAL

    @property
    def actor(self) -> str:
        """As the audit log names it."""
        return self.sender.id if self.sender.id.startswith(SENDER) else f"{self.channel or WEB}:{self.sender.id}"

    @property
    def operates(self) -> str | None:
        """The channel for which the caller sees what is no single conversation's; None: all. Raises `Problem`."""
        if self.conversations is None:
            return None
        if self.channel and self.may("operate"):
            return self.channel
        raise Problem(403, "key_limited", "A key for some conversations sees only what belongs to one of them.")

    @property
    def is_unlimited(self) -> bool:
        return self.conversations is None and self.agents is None

    @property
    def manages_people(self) -> bool:
        return (self.may("admin") and self.is_unlimited) or (bool(self.channel) and self.may("operate"))

    def sender_at(self, address: Address) -> Sender:
        """The author of what the caller writes there. On channels for others, the owner is no user of the platform."""
        return Sender(OWNER_ELSEWHERE, "Operator") if self.sender == OWNER and address.channel != WEB else self.sender

    def owns(self, address: Address) -> bool:
        """Whether the conversation there is that of the caller alone, on the web channel."""
        return address.channel == self.channel == WEB and address.account == self.account

    def may(self, scope: ApiKeyScope) -> bool:
        return SCOPES.index(self.scope) >= SCOPES.index(scope)

    def covers(self, other: Caller) -> bool:
        """Whether this caller may do at least what the other one may."""
        return self.may(other.scope) and _covers(self.conversations, other.conversations)

    def sees(self, conversation: str) -> bool:
        """Whether the conversation with this id (`gateway.api.ids`) exists for the caller."""
        return self.conversations is None or matches(conversation, self.conversations)

    def may_use(self, agent: str) -> bool:
        return self.agents is None or matches(agent, self.agents)


def _covers(patterns: tuple[str, ...] | None, others: tuple[str, ...] | None) -> bool:
    return patterns is None or (others is not None and set(others) <= set(patterns))


def caller_of(request: Request) -> Caller:
    """The caller that `gateway.api.guard` has found."""
    caller = request.scope["caller"]
    assert isinstance(caller, Caller)
    return caller


def scope_missing(caller: Caller, scope: ApiKeyScope) -> Problem:
    return Problem(403, "scope_missing", f'This needs a key with the scope "{scope}"; yours has "{caller.scope}".')


def _needs(scope: ApiKeyScope) -> Callable[[Request], Caller]:
    def caller(request: Request) -> Caller:
        found = caller_of(request)
        if not found.may(scope):
            raise scope_missing(found, scope)
        return found

    return caller


def _unlimited_admin(caller: Annotated[Caller, Depends(_needs("admin"))]) -> Caller:
    if not caller.is_unlimited:
        raise Problem(403, "key_limited", "A key for some conversations or agents cannot do what concerns all of them.")
    return caller


Reader = Annotated[Caller, Depends(_needs("read"))]
Writer = Annotated[Caller, Depends(_needs("chat"))]
Operator = Annotated[Caller, Depends(_needs("operate"))]
Admin = Annotated[Caller, Depends(_unlimited_admin)]
"""Parameters of routes: the caller, who must have this scope; as `Admin` without limits, who could make a key without
them."""

"""Slack's user groups: which there are, and who is in those that the settings name. Requested from Slack and cached."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError

from channels.address import Sender
from channels.channel import Group
from channels.slack.api import Api, error_code, explanation, is_refusal
from channels.visible import MALFORMED

log = logging.getLogger(__name__)

FRESH_SECONDS = 30.0
"""How long an answer is used without asking again: https://docs.slack.dev/reference/methods/usergroups.list allows
twenty requests a minute."""

MAX_AGE = 3600.0
"""How long the last answer is used while Slack does not answer. After that nobody's groups are known."""

WAIT = 2.5
"""Seconds that an event may wait for the groups: Slack requires an answer within three."""


class GroupsUnknown(Exception):
    """Slack has not said yet who is in the groups."""


@dataclass(frozen=True, slots=True)
class _UserGroup:
    id: str
    name: str
    handle: str
    users: frozenset[str]


class UserGroups:
    """Close it with `aclose()`."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._watched: frozenset[str] = frozenset()
        self._groups: tuple[_UserGroup, ...] = ()
        self._asked_at = -math.inf
        """When Slack last answered, in monotonic seconds."""
        self._request: asyncio.Task[None] | None = None

    async def aclose(self) -> None:
        if self._request is not None:
            self._request.cancel()
            await asyncio.gather(self._request, return_exceptions=True)

    def watch(self, ids: Collection[str]) -> None:
        """Only user groups among them, whose ids begin with S. In lower case."""
        self._watched = frozenset(id for id in ids if id.startswith("s"))

    async def ready(self) -> None:
        """Returns once it is known who is in the groups; raises `GroupsUnknown` if Slack does not say. Asks again in
        the background when the answer is not fresh."""
        if not self._watched:
            return
        age = time.monotonic() - self._asked_at
        if age > FRESH_SECONDS:
            request = self._ask()
            if age > MAX_AGE:
                await asyncio.wait([request], timeout=WAIT)
        if time.monotonic() - self._asked_at > MAX_AGE:
            raise GroupsUnknown("Slack has not said yet who is in its user groups")

    async def refresh(self) -> None:
        """As `ready`, but with a fresh answer."""
        if self._watched and time.monotonic() - self._asked_at > FRESH_SECONDS:
            await asyncio.wait([self._ask()])
        await self.ready()

    def of(self, user: str) -> frozenset[str]:
        """The watched groups that the user is in."""
        return frozenset(
            group.id for group in self._groups if group.id.lower() in self._watched and user in group.users
        )

    def added_to(self, people: Mapping[str, Sender]) -> dict[str, Sender]:
        """The people with the watched groups that they are in."""
        return {id: replace(sender, groups=self.of(id)) for id, sender in people.items()}

    async def find(self, names: Collection[str]) -> dict[str, Group]:
        """By @handle: unique among the workspace's people and groups. Without an answer: none."""
        await asyncio.wait([self._ask()])
        found = {f"@{group.handle.lower()}": Group(group.id, group.name) for group in self._groups}
        return {name: found[name] for name in names if name in found}

    def _ask(self) -> asyncio.Task[None]:
        """One request for all that wait; it goes on after they have stopped waiting."""
        if self._request is None or self._request.done():
            self._request = asyncio.create_task(self._load())
        return self._request

    async def _load(self) -> None:
        try:
            answer = await self._api.call("usergroups.list", include_users=True)
            self._groups = tuple(_user_group(group) for group in answer["usergroups"])
        except SlackApiError as error:
            if not is_refusal(error):
                log.info("user groups are not available: %s", error_code(error))
                return
            # It would not be known when somebody leaves a group.
            self._groups = ()
            tell = log.warning if self._watched else log.info
            tell("Slack does not tell who is in user groups, so nobody counts as in one: %s", explanation(error))
        except (SlackClientError, aiohttp.ClientError, TimeoutError, OSError) as error:
            log.info("user groups are not available: %r", error)
            return
        except MALFORMED:
            log.exception("user groups cannot be read")
            return
        self._asked_at = time.monotonic()


def _user_group(data: dict[str, object]) -> _UserGroup:
    users = data.get("users")
    listed = users if isinstance(users, list) else []
    id = str(data["id"])
    return _UserGroup(id, str(data.get("name") or id), str(data.get("handle") or ""), frozenset(map(str, listed)))

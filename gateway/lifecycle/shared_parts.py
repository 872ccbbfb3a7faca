"""Parts that several configurations share: open from the first that uses one until the last is done with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(eq=False)
class _Part:
    """A part and the task that opens and closes it: some libraries need both in one task."""

    name: str
    made_of: object
    opened: asyncio.Future[Any]
    users: int = 0
    unused: asyncio.Event = field(default_factory=asyncio.Event)
    owner: asyncio.Task[None] | None = None


class SharedParts:
    def __init__(self) -> None:
        self._parts: list[_Part] = []

    async def use(
        self,
        name: str,
        made_of: object,
        make: Callable[[], AbstractAsyncContextManager[T]],
        stack: AsyncExitStack,
    ) -> T:
        """The open part of this name that is made of the same (`==`), else a new one, which `make` makes. It is used
        until the stack is closed. Raises what making or opening it raises."""
        part = next((each for each in self._parts if (each.name, each.made_of) == (name, made_of)), None)
        if part is None:
            part = _Part(name, made_of, asyncio.get_running_loop().create_future())
            part.owner = asyncio.create_task(_own(part, make))
            self._parts.append(part)
        part.users += 1
        stack.push_async_callback(self._give_back, part)
        opened: T = await asyncio.shield(part.opened)
        return opened

    async def _give_back(self, part: _Part) -> None:
        part.users -= 1
        if part.users or part.owner is None:
            return
        self._parts.remove(part)
        part.unused.set()
        if not part.opened.done():
            part.owner.cancel()
        await asyncio.wait([part.owner])


async def _own(part: _Part, make: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
    """Opens the part, and closes it once nobody uses it. Whatever fails while it is opened, its users are told."""
    try:
        async with make() as opened:
            part.opened.set_result(opened)
            await part.unused.wait()
    except asyncio.CancelledError:
        part.opened.cancel()
        raise
    except Exception as error:
        if part.opened.done():
            log.exception("%s: closing it failed", part.name)
        else:
            part.opened.set_exception(error)

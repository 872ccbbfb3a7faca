"""Which tools a turn may call, and which of them the model is described; it can search for the others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Annotated

from pydantic import Field

from agent.decisions.external_tools import available_tools
from agent.log import Call, Entry, ModelAnswered
from agent.tool import Tool, ToolContext, tool
from agent.toolset import Toolset
from agent.transcript import RenderedTurn

MAX_DESCRIBED = 40
"""Tools that the model is described without searching: more of them cost tokens in each request, and are confused."""

MAX_FOUND = 8
"""Tools that one search finds."""

MAX_QUERY = 500
"""Characters of a query."""

MAX_REMEMBERED = 10
"""Searches of a conversation, the latest, whose tools stay described without having been called."""


def callable_tools(toolset: Toolset, entries: Iterable[Entry]) -> tuple[Tool, ...]:
    """The tools that may be called: those of the toolset as it is now and those declared with messages, and
    `find_tools` if not all of them are described, in place of one that is declared under its name."""
    tools = available_tools(tuple(toolset), entries)
    if len(tools) <= MAX_DESCRIBED:
        return tools
    return (*(each for each in tools if each.name != find_tools.name), find_tools)


def described_tools(tools: Sequence[Tool], past: Sequence[RenderedTurn], entries: Sequence[Entry]) -> tuple[Tool, ...]:
    """Those of the callable tools that the model is described: the first ones, those that it has called, and those
    that it has searched for."""
    if len(tools) <= MAX_DESCRIBED:
        return tuple(tools)
    named = _called_or_found(tools, past, entries)
    return tuple(
        each
        for number, each in enumerate(tools, start=1)
        if number < MAX_DESCRIBED or each.name in named or each is find_tools
    )


@tool(effect="read", timeout=10.0)
async def find_tools(
    context: ToolContext,
    query: Annotated[
        str,
        Field(min_length=1, max_length=MAX_QUERY, description="What the tool should do, in a few words, or its name."),
    ],
) -> str:
    """Finds tools by what they do. You are not described all tools; those found here you can call in your next step."""
    found = search_tools(tuple(context.tools), query)
    if not found:
        return "No tool fits. Use other words."
    listed = "\n".join(f"- {each.name}: {_first_line(each.description)}" for each in found)
    return f"You can call these from now on:\n{listed}"


def search_tools(tools: Sequence[Tool], query: str) -> tuple[Tool, ...]:
    """The tools whose names and descriptions have most of the words of the query, best first."""
    words = frozenset(_words(query))
    scored = [(_score(each, words), number, each) for number, each in enumerate(tools)]
    best = sorted((entry for entry in scored if entry[0] > 0), key=lambda entry: (-entry[0], entry[1]))
    return tuple(each for _, _, each in best[:MAX_FOUND])


def _called_or_found(tools: Sequence[Tool], past: Sequence[RenderedTurn], entries: Sequence[Entry]) -> frozenset[str]:
    """Names of tools, from the calls of the conversation: a search finds again what it has found."""
    calls = tuple(_calls(past, entries))
    latest = dict.fromkeys(_query(call) for call in reversed(calls) if call.name == find_tools.name)
    queries = islice(filter(None, latest), MAX_REMEMBERED)
    found = (each.name for query in queries for each in search_tools(tools, query))
    return frozenset((*(call.name for call in calls), *found))


def _calls(past: Sequence[RenderedTurn], entries: Sequence[Entry]) -> Iterator[Call]:
    exchanges = (exchange for turn in past for exchange in turn.exchanges)
    for item in (*exchanges, *entries):
        if isinstance(item, ModelAnswered):
            yield from item.calls


def _query(call: Call) -> str:
    """The query of a search; "" if its arguments are not valid, so that it was not run."""
    try:
        arguments = json.loads(call.arguments or "{}")
    except ValueError:
        return ""
    query = arguments.get("query") if isinstance(arguments, dict) else None
    return query if isinstance(query, str) and len(query) <= MAX_QUERY else ""


def _score(tool: Tool, words: frozenset[str]) -> int:
    """A word in the name counts more than one in the description."""
    in_name, in_description = _words_of(tool.name, tool.description)
    return 3 * len(words & in_name) + len(words & in_description)


@lru_cache(maxsize=2_000)
def _words_of(name: str, description: str) -> tuple[frozenset[str], frozenset[str]]:
    """The words of a tool's name and description. The same tools are searched at each step."""
    return frozenset(_words(name)), frozenset(_words(description))


def _words(text: str) -> Iterator[str]:
    """The words in lower case; names are split at underscores and capitals."""
    for word in re.findall(r"[^\W_]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", text)):
        yield word.lower()


def _first_line(description: str) -> str:
    return description.strip().partition("\n")[0][:200]

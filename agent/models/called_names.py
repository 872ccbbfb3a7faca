"""Names of tools as models write them: which declared tool is meant, and what a provider accepts as a name."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace

from agent.arguments import letters
from agent.log import Call
from agent.model import Answer, ToolSpec
from agent.models.protocols.call_forms import MAX_NAME_LENGTH, plain_name

UNKNOWN = "_unknown"
"""The end of a name that would otherwise be that of a tool which was not meant."""

_SPECIAL_TOKEN = re.compile("<[|\N{FULLWIDTH VERTICAL LINE}].*", re.DOTALL)
_COUNTER = re.compile(r":\d+\Z")
_NAMESPACE = re.compile(r"(?:functions?|tools?|default_api|api|assistant|mcp)(?:[./:]|__)", re.IGNORECASE)
_AROUND = " \t\r\n\"'`()[]{}<>.,:;"


def with_known_names(answer: Answer, tools: Sequence[ToolSpec]) -> Answer:
    """The answer with each called name as the declared tool's that is meant beyond doubt, else as a name that every
    provider accepts and no tool has."""
    if not any(isinstance(part, Call) for part in answer.parts):
        return answer
    declared = {tool.name for tool in tools}
    parts = tuple(
        replace(part, name=known_name(part.name, declared)) if isinstance(part, Call) else part for part in answer.parts
    )
    return answer if parts == answer.parts else replace(answer, parts=parts)


def known_name(name: str, declared: Collection[str]) -> str:
    """The declared name that is meant by `name`, else `name` as every provider accepts it."""
    if name in declared:
        return name
    for candidate in _candidates(name):
        meant = {each for each in declared if letters(each) == candidate}
        if len(meant) == 1:
            return meant.pop()
        if meant:
            break
    accepted = plain_name(name)
    return f"{accepted[: MAX_NAME_LENGTH - len(UNKNOWN)]}{UNKNOWN}" if accepted in declared else accepted


def _candidates(name: str) -> tuple[str, ...]:
    """What of the name may be the tool's: without what models put around it, with and without a namespace."""
    bare = _COUNTER.sub("", _SPECIAL_TOKEN.sub("", name).strip(_AROUND))
    without_namespace = _NAMESPACE.sub("", bare, count=1) if _NAMESPACE.match(bare) else bare
    return tuple(dict.fromkeys(found for each in (bare, without_namespace) if (found := letters(each))))

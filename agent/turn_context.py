"""What is particular to one turn: where it takes place, what people have allowed there, and what goes on beside it."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.background import Background, NoBackground
from agent.budget import Budget, NoBudget
from agent.hook import Where


@dataclass(frozen=True, slots=True)
class TurnContext:
    """`allowed` are the tools that people have allowed for the whole conversation, `model` the one that they chose for
    it, by its name in the settings ("": the usual one). With `in_words` the model answers without tools, and this is
    what it is told about that. `alone`: nobody is there who could be asked to decide.
    """

    where: Where = field(default_factory=Where)
    allowed: frozenset[str] = frozenset()
    model: str = ""
    in_words: str = ""
    alone: bool = False
    budget: Budget = field(default_factory=NoBudget)
    work: Background = field(default_factory=NoBackground)

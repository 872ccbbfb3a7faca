"""What is particular to one turn: where it takes place, what people have allowed there, and what goes on beside it."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.background import Background, NoBackground
from agent.budget import Budget, NoBudget
from agent.hook import HookContext


@dataclass(frozen=True, slots=True)
class TurnContext:
    """`allowed` are the tools that people have allowed for the whole conversation, `model` the one that they chose for
    it, by its name in the settings ("": the usual one). With `in_words` the model answers without tools, and this is
    what it is told about that. `unattended`: nobody is there who could be asked to decide.
    """

    hook_context: HookContext = field(default_factory=HookContext)
    allowed: frozenset[str] = frozenset()
    model: str = ""
    text_only_notice: str = ""
    unattended: bool = False
    budget: Budget = field(default_factory=NoBudget)
    background: Background = field(default_factory=NoBackground)

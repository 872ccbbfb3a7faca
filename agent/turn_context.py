"""The context of one turn: conversation and sender, permissions, budget and background work."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.background import Background, NoBackground
from agent.budget import Budget, NoBudget
from agent.hook import HookContext
from agent.memory import Memory, NoMemory
from agent.model import Reasoning
from agent.schedules import NoSchedules, Schedules
from agent.workspace_changes import PlainWorkspace, WorkspaceChanges


@dataclass(frozen=True, slots=True)
class TurnContext:
    """`allowed` are the tools that people have allowed for the whole conversation. `model` is the model that they chose
    for it, by its name in the settings ("": the default), and `reasoning` how much they want it to reason. A
    `text_only_notice` tells the model to answer without tools. `unattended`: nobody can be asked for approval.
    `in_group`: several people take part. `workspace` is told of changes there.
    """

    hook_context: HookContext = field(default_factory=HookContext)
    allowed: frozenset[str] = frozenset()
    model: str = ""
    reasoning: Reasoning | None = None
    text_only_notice: str = ""
    unattended: bool = False
    in_group: bool = False
    budget: Budget = field(default_factory=NoBudget)
    background: Background = field(default_factory=NoBackground)
    workspace: WorkspaceChanges = field(default_factory=PlainWorkspace)
    schedules: Schedules = field(default_factory=NoSchedules)
    memory: Memory = field(default_factory=NoMemory)

"""The agent: the parts that all turns of a conversation share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from agent.context.manager import ContextManager
from agent.foreign import ForeignRule
from agent.hook import Hooks, NoHooks
from agent.media import MediaStore
from agent.model import Model
from agent.toolset import Toolset

DEFAULT_APPROVAL_TIMEOUT = 24 * 3600.0


def unmasked(text: str) -> str:
    """The mask for an agent without known secrets."""
    return text


@dataclass(frozen=True, slots=True)
class Agent:
    """`max_steps` limits model calls since the last message of a person. `compactor` keeps the conversation within the
    model's context window; without it, that is left to the provider. `mask` removes known secrets from a text.
    `name` is its name in the settings, `delegates` are the names of the agents that it may give tasks to.
    `approval_timeout` is in seconds: after that, an approval request counts as denied. `foreign_text` is what happens
    to calls with effects outside the workspace after text from outside was read. `skills` are the names of its skills,
    or patterns of them; None for all. `servers` are the names of the MCP servers of which it may have tools.
    """

    model: Model
    media: MediaStore
    workspace: Path
    tools: Toolset = ()
    instructions: str = ""
    max_steps: int = 50
    hooks: Hooks = field(default_factory=NoHooks)
    compactor: ContextManager | None = None
    mask: Callable[[str], str] = unmasked
    approval_timeout: float = DEFAULT_APPROVAL_TIMEOUT
    foreign_text: ForeignRule = "ask"
    name: str = ""
    delegates: tuple[str, ...] = ()
    skills: tuple[str, ...] | None = None
    servers: tuple[str, ...] = ()

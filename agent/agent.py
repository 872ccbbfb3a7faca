"""What an agent is made of, the same for all turns of a place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from agent.context.compaction import Compactor
from agent.hook import Hooks, NoHooks
from agent.media import MediaStore
from agent.model import Model
from agent.tool import Tool

A_DAY = 24 * 3600.0


def unmasked(text: str) -> str:
    """For where no secrets are known."""
    return text


@dataclass(frozen=True, slots=True)
class Agent:
    """`max_steps` counts model calls since a person last spoke. `context` keeps the conversation within the model's
    window; without it that is left to the model's provider. `mask` takes known secrets out of a text.
    `approval_timeout` is for how many seconds people are asked to decide until it counts as denied.
    """

    model: Model
    media: MediaStore
    workspace: Path
    tools: tuple[Tool, ...] = ()
    instructions: str = ""
    max_steps: int = 50
    hooks: Hooks = field(default_factory=NoHooks)
    compactor: Compactor | None = None
    mask: Callable[[str], str] = unmasked
    approval_timeout: float = A_DAY

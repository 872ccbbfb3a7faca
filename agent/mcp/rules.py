"""The rules of a server's tools: what its annotations mean here, unless the operator says otherwise.

The annotations are at https://modelcontextprotocol.io/specification/2025-11-25/schema#toolannotations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.tool import Approval, Effect, OnSteer


@dataclass(frozen=True, slots=True)
class RuleChanges:
    """What the operator changes about one tool; None leaves a rule as it is."""

    effect: Effect | None = None
    approval: Approval | None = None
    on_steer: OnSteer | None = None
    timeout: float | None = None
    foreign: bool | None = None


@dataclass(frozen=True, slots=True)
class ToolRules:
    """See `agent.tool.Tool`."""

    effect: Effect
    approval: Approval
    on_steer: OnSteer
    timeout: float
    repeatable: bool
    foreign: bool


def rules_of(annotations: Mapping[str, bool], timeout: float, changes: RuleChanges | None = None) -> ToolRules:
    """The rules of a tool with these annotations.

    A tool that only reads needs no approval, and is cancelled by an interjection. Any other has effects outside, and
    needs approval: each time if it says that it destroys, else until people allow it for the conversation. Unless a
    tool says that its world is closed, its results are text from outside.
    """
    changes = changes or RuleChanges()
    reads = annotations.get("readOnlyHint", False)
    effect: Effect = changes.effect or ("read" if reads else "external")
    approval: Approval = "never" if effect == "read" else "always" if annotations.get("destructiveHint") else "once"
    return ToolRules(
        effect=effect,
        approval=changes.approval or approval,
        on_steer=changes.on_steer or ("cancel" if effect == "read" else "finish"),
        timeout=changes.timeout or timeout,
        repeatable=effect == "read" or annotations.get("idempotentHint", False),
        foreign=annotations.get("openWorldHint", True) if changes.foreign is None else changes.foreign,
    )

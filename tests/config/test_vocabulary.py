"""The values that settings accept are those of the agent: neither package imports the other."""

from typing import get_args

import agent.hook
import agent.tool
from agent.tools import TOOL_NAMES
from config.hooks import Point
from config.tools import TOOLS, ToolRules


def test_the_names_of_tools_are_those_of_the_agent() -> None:
    assert TOOLS == TOOL_NAMES


def test_the_points_of_hooks_are_those_of_the_agent() -> None:
    assert get_args(Point) == get_args(agent.hook.Point)


def test_the_rules_for_tools_are_those_of_the_agent() -> None:
    approval, on_steer = (ToolRules.model_fields[name].annotation for name in ("approval", "on_steer"))
    assert approval == agent.tool.Approval | None
    assert on_steer == agent.tool.OnSteer | None

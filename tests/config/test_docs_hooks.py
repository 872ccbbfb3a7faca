"""The page of the hooks, held to the code."""

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

from agent.hook import (
    Deny,
    HookContext,
    MessageIn,
    ModelAnswer,
    ModelRequest,
    Point,
    ReplyPart,
    Ruled,
    Subject,
    ToolCall,
    ToolEnd,
)
from agent.hooks.chain import HookChain, RegisteredHook
from agent.hooks.python import python_hook
from agent.hooks.wire import question_params
from tests.config.conftest import Operator
from tests.config.test_docs import TOKENS, examples, page, section

SUBJECTS: dict[str, type[Subject]] = {
    "on_message": MessageIn,
    "before_model": ModelRequest,
    "after_model": ModelAnswer,
    "before_tool": ToolCall,
    "approve_tool": ToolCall,
    "after_tool": ToolEnd,
    "before_reply": ReplyPart,
}


def test_its_settings_are_valid(operator: Operator) -> None:
    settings, *_ = examples(page("hooks"))
    assert len(operator.settings(settings, HOOK_SECRET="h", **TOKENS).hooks) == 3


def test_it_names_every_point_with_every_field_of_its_subject() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section(page("hooks"), "Points"), re.MULTILINE))
    assert tuple(rows) == get_args(Point)
    for point, subject in SUBJECTS.items():
        named = re.findall(r"`(\w+)`", rows[point].rpartition(": ")[2])
        assert named == ([] if point == "approve_tool" else [field.name for field in fields(subject)])


def test_it_names_every_field_of_the_context() -> None:
    sentence = re.search(r"^Every request includes its context: (.*)$", page("hooks"), re.MULTILINE)
    assert sentence
    assert re.findall(r"`(\w+)`", sentence[1]) == [field.name for field in fields(HookContext)]


def test_its_requests_are_those_that_are_sent() -> None:
    shown = [json.loads(line) for line in re.findall(r"^→ (.*)$", page("hooks"), re.MULTILINE)]
    call = ToolCall("…", "shell", {"command": "sudo ls"}, "external", tools={"shell": "external", "read_file": "read"})
    sent = question_params(HookContext("…", "slack", "…", "Ada", "U7", "main"), call)
    assert shown[1]["params"] == json.loads(json.dumps(sent))


async def test_its_python_class_loads_and_does_what_it_says(tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", page("hooks"), re.MULTILINE | re.DOTALL)
    file = tmp_path / "rules.py"
    file.write_text(code, encoding="utf-8")
    points: tuple[Point, ...] = ("before_tool", "before_reply", "on_event")
    here = HookContext(session="s", channel="web", run_id="r", sender="Ada")

    async with HookChain([RegisteredHook("rules", python_hook(f"{file}:Rules", points), points)]) as chain:
        call = ToolCall("c", "shell", {"command": "sudo ls"}, "external")
        assert (await chain.ask("before_tool", here, call))[1] == Ruled(Deny("no commands as root"), "rules")
        part, _ = await chain.ask("before_reply", here, ReplyPart("text", "a colour"))
        assert part.text == "a color"

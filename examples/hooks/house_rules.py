"""A hook as a Python class: rules of the house, kept while the agent works.

    [[hooks]]
    name = "house-rules"
    type = "python"
    path = "examples/hooks/house_rules.py:HouseRules"
    points = ["before_model", "before_tool", "approve_tool", "before_reply"]

A method gets the context and the subject. It returns None to continue, a changed subject, or a ruling.
"""

import re
from dataclasses import replace

from agent.hook import Ask, Deny, ModelRequest, ReplyPart, ToolCall, HookContext

DANGEROUS = re.compile(r"\brm\s+-\w*[rf]|\bgit\s+push\b|\bdrop\s+table\b", re.IGNORECASE)
CARD = re.compile(r"\b(?:\d[ -]?){12,15}\d\b")


class HouseRules:
    async def before_model(self, context: HookContext, request: ModelRequest) -> ModelRequest | None:
        """Tells the model something, once, after what people said."""
        if request.step > 1:
            return None
        return replace(request, notices=(*request.notices, "The office is closed on Fridays."))

    async def before_tool(self, context: HookContext, call: ToolCall) -> ToolCall | Deny | None:
        """Keeps secrets' files shut, and gives slow commands a limit."""
        if call.tool == "read_file" and str(call.arguments.get("path", "")).endswith(".env"):
            return Deny("files with secrets stay shut")
        if call.tool == "shell" and "timeout_seconds" not in call.arguments:
            return replace(call, arguments={**call.arguments, "timeout_seconds": 60})
        return None

    async def approve_tool(self, context: HookContext, call: ToolCall) -> Ask | None:
        """Has people asked before something is gone."""
        if call.tool == "shell" and DANGEROUS.search(str(call.arguments.get("command", ""))):
            return Ask("this cannot be undone")
        return None

    async def before_reply(self, context: HookContext, part: ReplyPart) -> ReplyPart:
        """Shows nobody the number of a card."""
        return replace(part, text=CARD.sub("[number of a card]", part.text))

"""A hook as a Python class: a team's rules, applied while the agent works.

    [[hooks]]
    name = "team-rules"
    type = "python"
    path = "examples/hooks/team_rules.py:TeamRules"
    points = ["before_model", "before_tool", "approve_tool", "before_reply"]

A method gets the context and the subject. It returns None to continue, a changed subject, or a ruling.
"""

import re
from dataclasses import replace

from interject import Ask, Deny, Hook, HookContext, ModelRequest, ReplyPart, ToolCall

DANGEROUS = re.compile(r"\brm\s+-\w*[rf]|\bgit\s+push\b|\bdrop\s+table\b", re.IGNORECASE)
CARD_NUMBER = re.compile(r"\b(?:\d[ -]?){12,15}\d\b")


class TeamRules(Hook):
    async def before_model(self, context: HookContext, request: ModelRequest) -> ModelRequest | None:
        """Adds a notice for the model, once per turn, after the messages."""
        if request.step > 1:
            return None
        return replace(request, notices=(*request.notices, "The office is closed on Fridays."))

    async def before_tool(self, context: HookContext, call: ToolCall) -> ToolCall | Deny | None:
        """Denies reading files with secrets, and sets a time limit for commands without one."""
        if call.tool == "read_file" and str(call.arguments.get("path", "")).endswith(".env"):
            return Deny("files with secrets are not readable")
        if call.tool == "shell" and "timeout_seconds" not in call.arguments:
            return replace(call, arguments={**call.arguments, "timeout_seconds": 60})
        return None

    async def approve_tool(self, context: HookContext, call: ToolCall) -> Ask | None:
        """Requires approval for commands that cannot be undone."""
        if call.tool == "shell" and DANGEROUS.search(str(call.arguments.get("command", ""))):
            return Ask("this cannot be undone")
        return None

    async def before_reply(self, context: HookContext, part: ReplyPart) -> ReplyPart:
        """Hides card numbers in replies."""
        return replace(part, text=CARD_NUMBER.sub("[card number]", part.text))

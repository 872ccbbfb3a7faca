"""Prompts of servers: texts for a kind of work, which people choose by a command and the model reads with a tool."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from hashlib import sha256

from agent.gate import one_line
from agent.tool import Tool

MAX_COMMAND = 32
"""Characters of a command's name, in Telegram and Discord."""

MAX_PROMPT_NAME = 200
MAX_ARGUMENTS = 20

_REFUSED = re.compile(r"[^a-z0-9_]+")


@dataclass(frozen=True, slots=True)
class PromptArgument:
    name: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt of a server, with its arguments in the order in which the server declares them."""

    name: str
    description: str
    arguments: tuple[PromptArgument, ...] = ()

    @property
    def usage(self) -> str:
        """Its arguments, as people type them: `<number> [focus]`."""
        return " ".join(
            f"<{one_line(each.name, 40)}>" if each.required else f"[{one_line(each.name, 40)}]"
            for each in self.arguments
        )

    def filled(self, text: str) -> Mapping[str, str] | None:
        """The arguments from what a person typed: a word each, and the last one takes the rest. None if a required one
        is missing."""
        words = text.split(maxsplit=len(self.arguments) - 1) if self.arguments else []
        if any(each.required for each in self.arguments[len(words) :]):
            return None
        return {each.name: word.strip() for each, word in zip(self.arguments, words, strict=False)}


@dataclass(frozen=True, slots=True)
class PromptCommand:
    """The command by which people choose a prompt, and the tool with which the model reads it."""

    name: str
    prompt: Prompt
    tool: Tool

    @property
    def usage(self) -> str:
        return f"/{self.name} {self.prompt.usage}".strip()

    def note(self, arguments: Mapping[str, str]) -> str:
        """What the model reads with a message that begins with the command."""
        call = json.dumps({"name": self.prompt.name, "arguments": dict(arguments)}, ensure_ascii=False)
        return (
            f"The message begins with /{self.name}, which stands for a prompt of an MCP server. Before anything else "
            f"call the tool {self.tool.name} with {call}: the person asks for what its result says. If you have no "
            f"such tool, or it fails, say that the prompt cannot be used here, and do not guess what it says."
        )


def command_name(server: str, name: str, taken: Container[str] = ()) -> str:
    """`<server>_<name>` of up to 32 of a-z, 0-9 and _, as every platform takes it. If it is too long or taken, a hash
    of the original name makes it unique."""
    full = _REFUSED.sub("_", f"{server}_{name}".lower())
    if len(full) <= MAX_COMMAND and full not in taken:
        return full
    digest = sha256(name.encode(errors="surrogatepass")).hexdigest()[:6]
    return f"{full[: MAX_COMMAND - len(digest) - 1]}_{digest}"

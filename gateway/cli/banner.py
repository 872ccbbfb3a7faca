"""The banner that `interject run` prints: what was started, where, and how to add the rest; pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from config.channels import CHANNELS, ChannelSettings, SlackSettings
from config.load import FILE, Configuration
from gateway.cli import VERSION

_MARGIN = 12
_WIDTH = 100


Row = tuple[str, str]
"""A label, and the text beside it."""


def banner(configuration: Configuration, link: str | None, program: str) -> str:
    """Some twenty lines for a person. `link` is the web chat's, None when it is off. `program` is how this command is
    called here."""
    rows = [*_chat(link, program), *_model(configuration), *_channels(configuration), *_paths(configuration, program)]
    return "\n".join([f"Interject {VERSION}", "", *(_format(label, text) for label, text in rows), ""])


def _chat(link: str | None, program: str) -> Iterator[Row]:
    yield "web chat", link or "off ([web] enabled = false)"
    if link is not None:
        yield "terminal", f"{program} chat"


def _model(configuration: Configuration) -> Iterator[Row]:
    model = configuration.settings.agent.model
    if model != "demo":
        yield "model", model
        return
    yield "model", "the built-in demo, which works offline. For a real model set OPENAI_API_KEY and add:"
    yield "", '\n    [agent]\n    model = "openai:gpt-5"'


def _channels(configuration: Configuration) -> Iterator[Row]:
    channels = configuration.settings.channels
    for name, channel in channels.items():
        yield name, f"starting; allowed users (allowlist): {allowed_users(name, channel)}"
    configured = {channel.type for channel in channels.values()}
    for kind in CHANNELS:
        if kind not in configured:
            needed = f"{_TOKENS[kind]} and allow in [channels.{kind}]"
            yield kind, f"not configured; needs {needed}, see docs/reference/{kind}.md"


_TOKENS = {"telegram": "token", "slack": "bot_token, app_token", "discord": "token"}


def allowed_users(name: str, channel: ChannelSettings) -> str:
    """The channel's allowlist and, where pairing is on, who approves others."""
    if "*" in (*channel.allow, *channel.members, *channel.guests):
        return "all members of the workspace" if _is_members_only(channel) else "everybody"
    users = list(dict.fromkeys((*channel.allow, *channel.admins, *channel.members, *channel.guests)))
    if not users and not channel.pair:
        return f'nobody yet; add allow = ["@your_name"] to [channels.{name}]'
    allowed = ", ".join(users) or "nobody yet"
    return f"{allowed}; others get a pairing code, approved by {_approvers(channel)}" if channel.pair else allowed


def _is_members_only(channel: ChannelSettings) -> bool:
    return isinstance(channel, SlackSettings) and channel.outsiders == "deny"


def _approvers(channel: ChannelSettings) -> str:
    return " or ".join((*channel.admins, '"interject pair approve CODE"'))


def _paths(configuration: Configuration, program: str) -> Iterator[Row]:
    file = configuration.file
    yield "settings", str(file.absolute()) if file else f'none yet; "{program} init" writes {FILE}'
    yield "state", str(configuration.home)
    yield "workspace", str(configuration.settings.agent.workspace)


def _format(label: str, text: str) -> str:
    margin = " " * (_MARGIN + 2)
    if text.startswith("\n"):
        return textwrap.indent(text[1:], margin[:-4])
    # A link or a path is one word and must not be broken.
    lines = textwrap.wrap(text, _WIDTH - len(margin), break_long_words=False, break_on_hyphens=False)
    return f"  {label:<{_MARGIN}}" + f"\n{margin}".join(lines)

"""What a gateway says when it starts: what runs, where, and how to add what does not; pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from config.channels import CHANNELS, ChannelSettings
from config.load import FILE, Configuration
from config.models import USUAL_KEY
from gateway.cli import VERSION

_MARGIN = 12
_WIDTH = 100


def opening(configuration: Configuration, link: str | None) -> str:
    """Some twenty lines for a person. `link` is the web chat's, None when it is off."""
    rows = [*_chat(link), *_model(configuration), *_channels(configuration), *_places(configuration)]
    return "\n".join([f"Interject {VERSION}", "", *(_row(label, text) for label, text in rows), ""])


Row = tuple[str, str]


def _chat(link: str | None) -> Iterator[Row]:
    yield "web chat", link or "off ([web] enabled = false)"
    if link is not None:
        yield "terminal", "interject chat"


def _model(configuration: Configuration) -> Iterator[Row]:
    model = configuration.settings.agent.model
    if model != "demo":
        yield "model", model
        return
    keys = " or ".join(USUAL_KEY.values())
    yield "model", f"the built-in demo, which works offline. For a real one set {keys} and add:"
    yield "", '\n    [agent]\n    model = "openai:gpt-5"'


def _channels(configuration: Configuration) -> Iterator[Row]:
    channels = configuration.settings.channels
    for name, channel in channels.items():
        yield name, f"starting; {who_may_write(name, channel)}"
    configured = {channel.type for channel in channels.values()}
    for kind in CHANNELS:
        if kind not in configured:
            yield kind, f"not configured; needs {_NEEDED[kind]} and allow in [channels.{kind}], see docs/reference/{kind}.md"


_NEEDED = {"telegram": "token", "slack": "bot_token, app_token", "discord": "token"}


def who_may_write(name: str, channel: ChannelSettings) -> str:
    if "*" in channel.allow:
        return "everybody may write to it"
    known = list(dict.fromkeys((*channel.allow, *channel.admins)))
    if not known and not channel.pair:
        return f'nobody may write to it yet: add allow = ["@your_name"] to [channels.{name}]'
    told = f"who may write to it: {', '.join(known)}" if known else "nobody may write to it yet"
    return f"{told}; others get a code that {_who_approves(channel)} approves" if channel.pair else told


def _who_approves(channel: ChannelSettings) -> str:
    return " or ".join((*channel.admins, '"interject pair approve CODE"'))


def _places(configuration: Configuration) -> Iterator[Row]:
    file = configuration.file
    yield "settings", str(file.absolute()) if file else f'none yet; "interject init" writes {FILE}'
    yield "state", str(configuration.home)
    yield "workspace", str(configuration.settings.agent.workspace)


def _row(label: str, text: str) -> str:
    margin = " " * (_MARGIN + 2)
    if text.startswith("\n"):
        return textwrap.indent(text[1:], margin[:-4])
    # A link or a path is one word, and stays one.
    lines = textwrap.wrap(text, _WIDTH - len(margin), break_long_words=False, break_on_hyphens=False)
    return f"  {label:<{_MARGIN}}" + f"\n{margin}".join(lines)

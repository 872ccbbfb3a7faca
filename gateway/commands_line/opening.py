"""What a gateway says when it starts: what runs, where, and how to add what does not; pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from config.load import FILE, Configuration
from config.settings import CHANNELS, USUAL_KEY, ChannelSettings
from gateway.commands_line import VERSION

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
    for kind in CHANNELS.keys() - {channel.type for channel in channels.values()}:
        yield kind, "not configured. To add it:"
        lines = [f"[channels.{kind}]", 'token = "${TELEGRAM_BOT_TOKEN}"   # from @BotFather', 'allow = ["@your_name"]']
        yield "", "".join(f"\n    {line}" for line in lines)


def who_may_write(name: str, channel: ChannelSettings) -> str:
    if not channel.allow:
        return f'nobody may write to it yet: add allow = ["@your_name"] to [channels.{name}]'
    if "*" in channel.allow:
        return "everybody may write to it"
    return f"who may write to it: {', '.join(channel.allow)}"


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

"""A channel of a Discord server, and how its app shows it to Ann."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

from markdown_it import MarkdownIt

from tests.screens.look import avatar, drawn, page, picture, time
from tests.screens.story import Name
from tests.servers.discord import ANN, BOB, Button, Discord, Json, Place, Shown

PEOPLE = {"Ann": ANN, "Bob": BOB}
ANSWERED, READ = "✅", "👀"
_MARKDOWN = MarkdownIt("commonmark", {"breaks": True}).enable("strikethrough")
_STYLES = {1: "primary", 2: "plain", 3: "success", 4: "danger"}


class DiscordScreen:
    def __init__(self, server: Discord) -> None:
        self._server = server
        self._place: Place = server.channel("harvest", [ANN, BOB], guild="Orchard")
        self._mention = f"<@{server.me['id']}>"

    @property
    def section(self) -> str:
        return (
            f'[web]\nenabled = false\n[channels.discord]\ntoken = "{self._server.token}"\n'
            f'api_url = "{self._server.api_url}"\ngateway_url = "{self._server.gateway_url}"\nallow = ["*"]\n'
        )

    async def connected(self) -> None:
        await self._server.connected()

    async def say(self, by: Name, text: str) -> None:
        await self._place.say(f"{self._mention} {text}", by=PEOPLE[by])

    async def sees(self, text: str) -> None:
        await self._place.until(lambda place: any(text in words for words in place.texts))

    async def press(self, by: Name, option: str) -> None:
        shown, button = await self._place.until(lambda _: self._button(option))
        await self._place.press(shown, button.custom_id or "", by=PEOPLE[by])

    async def at_rest(self) -> None:
        await self._place.until(lambda place: all(place.reactions_on(id) == [ANSWERED] for id in self._said()))

    async def at_work(self) -> None:
        await self.sees("⏳")
        await self._place.until(lambda _: self._button("Stop"))
        await self._place.until(lambda place: place.reactions_on(self._said()[-1]) == [READ])

    def _button(self, label: str) -> tuple[Shown, Button] | None:
        buttons = ((shown, button) for shown in self._place.messages for button in shown.buttons)
        return next((found for found in buttons if found[1].label == label), None)

    def _said(self) -> list[int]:
        return [id for id, message in self._place.log.items() if not message["author"]["bot"]]

    def html(self) -> str:
        rows, before = [], ""
        for number, (id, message) in enumerate(self._place.log.items()):
            rows.append(self._row(id, message, time(number), first=before != message["author"]["id"]))
            before = message["author"]["id"]
        head = "<header><i>#</i><b>harvest</b></header>"
        return page("discord", f"{head}<main>{''.join(rows)}</main><footer>Message #harvest</footer>")

    def _row(self, id: int, message: Json, at: str, *, first: bool) -> str:
        shown = self._place.shown(id)
        name = message["author"]["global_name"]
        app = '<span class="app">APP</span>' if shown else ""
        answered = self._answered(shown)
        first = first or bool(answered)
        head = f'<div class="who"><b>{name}</b>{app}<time>{at}</time></div>' if first else ""
        inner = self._named("".join(_written(message["content"] if shown is None else shown.words)))
        pictures = "".join(picture(file.data) for file in shown.files) if shown else ""
        keys = (
            "".join(f'<span class="key {_STYLES[b.style]}">{escape(b.label)}</span>' for b in shown.buttons)
            if shown
            else ""
        )
        states = "".join(f'<span class="pill">{drawn(emoji)} 1</span>' for emoji in self._place.reactions_on(id))
        below = "".join(f"<div>{part}</div>" for part in (keys, states) if part)
        face = avatar(name if first else "")
        body = f'<div class="body">{head}{inner}{pictures}{below}</div>'
        return f'{answered}<div class="row {"first" if first else ""}">{face}{body}</div>'

    def _answered(self, shown: Shown | None) -> str:
        """The message that this one is an answer to."""
        answered = self._place.log.get(shown.reply_to or 0) if shown else None
        if answered is None:
            return ""
        name, words = answered["author"]["global_name"], "".join(_written(answered["content"]))
        return f'<div class="answered">{avatar(name)}<b>{name}</b><span>{self._named(words)}</span></div>'

    def _named(self, html: str) -> str:
        return html.replace(escape(self._mention), f"<a>@{self._server.me['global_name']}</a>")


def _written(markdown: str) -> Iterator[str]:
    """What Discord makes of its markdown; the quiet lines (`-#`) are its own."""
    lines: list[str] = []
    fenced = False
    for line in markdown.splitlines():
        fenced ^= line.startswith("```")
        if line.startswith("-# ") and not fenced:
            yield _MARKDOWN.render("\n".join(lines))
            yield f'<div class="quiet">{_MARKDOWN.renderInline(line.removeprefix("-# "))}</div>'
            lines = []
        else:
            lines.append(line)
    yield _MARKDOWN.render(re.sub(r"\n\n(?=[^\n])", "\n\n", "\n".join(lines)))

"""A group in Telegram, and how its app shows it to Ann."""

from __future__ import annotations

import re
from html import escape

from tests.screens.look import avatar, drawn, page, picture, time
from tests.screens.story import Name
from tests.servers.telegram import BotApi, Chat, Json, Person, Shown

MENTION = "@interject_bot"
ANSWERED, READ = "👌", "👀"


class TelegramScreen:
    def __init__(self, api: BotApi) -> None:
        self._api = api
        self._people = {"Ann": Person(7, "Ann", "ann"), "Bob": Person(8, "Bob", "bob")}
        self._chat: Chat = api.group("Harvest", people=list(self._people.values()))

    @property
    def section(self) -> str:
        return (
            f'[web]\nenabled = false\n[channels.telegram]\ntoken = "{self._api.token}"\napi_url = "{self._api.url}"\n'
            'allow = ["*"]\n'
        )

    async def connected(self) -> None:
        """What is said is kept until it is asked for."""

    async def say(self, by: Name, text: str) -> None:
        await self._chat.say(f"{MENTION} {text}", sender=self._people[by])

    async def sees(self, text: str) -> None:
        await self._chat.until(lambda chat: any(text in words for words in chat.texts))

    async def press(self, by: Name, option: str) -> None:
        shown, button = await self._chat.until(lambda _: self._button(option))
        await self._chat.press(shown, button["callback_data"], sender=self._people[by])

    async def at_rest(self) -> None:
        await self._chat.until(lambda _: self._states() == [ANSWERED] * len(self._said()))

    async def at_work(self) -> None:
        await self.sees("⏳")
        await self._chat.until(lambda _: self._button("Stop"))
        await self._chat.until(lambda _: self._states()[-1] == READ)

    def _button(self, label: str) -> tuple[Shown, Json] | None:
        buttons = ((shown, button) for shown in self._chat.messages for button in shown.buttons)
        return next((found for found in buttons if found[1]["text"] == label), None)

    def _said(self) -> list[int]:
        return [id for id, message in self._chat.log.items() if not message["from"]["is_bot"]]

    def _states(self) -> list[str]:
        return [self._reaction(id) for id in self._said()]

    def _reaction(self, message: int) -> str:
        return "".join(each["emoji"] for each in self._chat.reactions.get(message, []))

    def html(self) -> str:
        count = len(self._people) + 1
        head = f'<header><div class="avatar room">H</div><div><b>Harvest</b><span>{count} members</span></div></header>'
        names = ["", *(message["from"]["first_name"] for message in self._chat.log.values()), ""]
        rows = [
            self._row(id, message, time(number), first=before != name, last=name != after)
            for (number, (id, message)), before, name, after in zip(
                enumerate(self._chat.log.items()), names, names[1:], names[2:], strict=False
            )
        ]
        return page("telegram", f"{head}<main>{''.join(rows)}</main><footer>Message</footer>")

    def _row(self, id: int, message: Json, at: str, *, first: bool, last: bool) -> str:
        name = message["from"]["first_name"]
        side = "mine" if name == "Ann" else "theirs"
        shown = self._chat.shown(id)
        inner = _written(message.get("text", "")) if shown is None else _bubble(shown)
        title = f'<div class="name {name.lower()}">{name}</div>' if first and side == "theirs" else ""
        state = self._reaction(id)
        pill = f'<span class="pill">{drawn(state)}{_tiny()}</span>' if state else ""
        keys = "".join(f'<div class="key">{escape(b["text"])}</div>' for b in (shown.buttons if shown else []))
        face = avatar(name if last else "") if side == "theirs" else ""
        kind = "photo" if shown is not None and shown.photo is not None else "words"
        foot = f'<div class="foot">{pill}<time>{at}</time></div>'
        bubble = f'<div class="bubble {kind}">{title}{self._answered(shown)}{inner}{foot}</div>'
        return f'<div class="row {side}">{face}<div class="stack">{bubble}{keys}</div></div>'

    def _answered(self, shown: Shown | None) -> str:
        """The message that this one is an answer to."""
        answered = self._chat.log.get(shown.reply_to or 0) if shown else None
        if answered is None:
            return ""
        name = answered["from"]["first_name"]
        return f'<div class="answered {name.lower()}"><b>{name}</b><span>{escape(answered["text"])}</span></div>'


def _tiny() -> str:
    """Who reacted."""
    return avatar("Interject")


def _bubble(shown: Shown) -> str:
    if shown.photo is not None:
        return picture(shown.photo)
    # A block stands on lines of its own, of which the app shows no empty ones.
    html = re.sub(r"\n\n(?=<pre>)|(?<=</pre>)\n\n", "\n", escape(shown.text) if shown.html is None else shown.html)
    return f'<div class="text">{html}</div>'


def _written(text: str) -> str:
    words = re.sub(r"(@[a-z_]+)", r"<a>\1</a>", escape(text))
    return f'<div class="text">{words}</div>'

"""A thread in a channel of Slack, and how its app shows it to Ann."""

from __future__ import annotations

import re
from html import escape

from markdown_it import MarkdownIt

from tests.screens.look import avatar, drawn, page, picture, time
from tests.screens.story import Name
from tests.servers.slack import Button, Message, Place, Shown, Slack, Task

ANSWERED, READ = "white_check_mark", "eyes"
_EMOJI = {"hourglass_flowing_sand": "⏳", "eyes": "👀", "white_check_mark": "✅", "no_entry_sign": "🚫"}
_MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


class SlackScreen:
    def __init__(self, server: Slack) -> None:
        self._server = server
        self._place: Place = server.channel("harvest", ["Ann", "Bob"])
        self._root: str | None = None

    @property
    def section(self) -> str:
        return (
            f'[web]\nenabled = false\n[channels.slack]\nbot_token = "{self._server.bot_token}"\n'
            f'app_token = "{self._server.app_token}"\napi_url = "{self._server.api_url}"\nallow = ["*"]\n'
        )

    async def connected(self) -> None:
        await self._server.connected()

    async def say(self, by: Name, text: str) -> None:
        """The first message begins the thread, in which the others are said."""
        said = await self._place.say(f"@{self._server.me.name} {text}", by=self._server.person(by), thread=self._root)
        self._root = self._root or said["ts"]

    async def sees(self, text: str) -> None:
        await self._place.until(lambda place: any(text in words for words in place.texts))

    async def press(self, by: Name, option: str) -> None:
        shown, button = await self._place.until(lambda _: self._button(option))
        await self._place.press(shown, button.value, by=self._server.person(by))

    async def at_rest(self) -> None:
        await self._place.until(lambda _: all(self._place.marks_on(said) == [ANSWERED] for said in self._said()))

    async def at_work(self) -> None:
        await self._place.until(lambda _: self._running() and (self._is_processing() or self._button("Stop")))
        await self._place.until(lambda _: self._place.marks_on(self._said()[-1]) == [READ])

    def _button(self, label: str) -> tuple[Shown, Button] | None:
        buttons = ((shown, button) for shown in self._place.messages for button in shown.buttons)
        return next((found for found in buttons if found[1].label == label), None)

    def _running(self) -> bool:
        tasks = (task for shown in self._place.messages for task in shown.tasks)
        return any(task.status == "in_progress" for task in tasks) or any("⏳" in text for text in self._place.texts)

    def _is_processing(self) -> bool:
        session = self._place.thread(self._root or "").session
        return session is not None and session.status == "processing"

    def _said(self) -> list[Message]:
        return [message for message in self._place.log.values() if message["user"] != self._server.me.id]

    def html(self) -> str:
        messages = enumerate(self._place.log.values())
        rows = [self._row(message, time(number)) for number, message in messages]
        rows.insert(1, f'<div class="replies">{len(rows) - 1} replies</div>')
        stop = '<div class="working">Interject is working<b>■ Stop</b></div>' if self._is_processing() else ""
        head = "<header><b>Thread</b><span># harvest</span></header>"
        return page("slack", f"{head}<main>{''.join(rows)}</main>{stop}<footer>Reply…</footer>")

    def _row(self, message: Message, at: str) -> str:
        shown = self._place.shown(message)
        name = self._server.name_of(message["user"])
        app = '<span class="app">APP</span>' if shown else ""
        inner = f"<p>{self._written(message['text'])}</p>" if shown is None else _content(shown)
        states = "".join(f'<span class="pill">{drawn(_EMOJI[m])} 1</span>' for m in self._place.marks_on(message))
        head = f'<div class="who"><b>{name}</b>{app}<time>{at}</time></div>'
        pills = f'<div class="pills">{states}</div>' if states else ""
        return f'<div class="row">{avatar(name)}<div class="body">{head}{inner}{pills}</div></div>'

    def _written(self, wire: str) -> str:
        # On the wire it is escaped already.
        return re.sub(r"<@(\w+)>", lambda found: f"<a>@{self._server.name_of(found[1])}</a>", wire)


def _content(shown: Shown) -> str:
    files = "".join(
        f'<div class="file">{escape(file.title or file.name)}</div>{picture(file.data)}' for file in shown.files
    )
    tasks = "".join(map(_task, shown.tasks))
    rest = "".join(_block(block) for block in shown.blocks if block["type"] in ("context", "actions"))
    return "".join(
        (files, _MARKDOWN.render(shown.markdown), f'<div class="tasks">{tasks}</div>' if tasks else "", rest)
    )


def _task(task: Task) -> str:
    return f'<div class="task {task.status}"><i></i>{escape(task.title)}</div>'


def _block(block: Message) -> str:
    if block["type"] == "context":
        return "".join(f'<div class="context">{escape(each["text"])}</div>' for each in block["elements"])
    keys = (f'<span class="key">{escape(each["text"]["text"])}</span>' for each in block["elements"])
    return f'<div class="keys">{"".join(keys)}</div>'

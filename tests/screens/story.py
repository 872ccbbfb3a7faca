"""The conversation that every group is pictured with: what its people do, and what the model says to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, Protocol

from tests.gateway.stage import gateway
from tests.servers.models import Call, ModelServer, Pause, Say

Name = Literal["Ann", "Bob"]

OPTIONS = ("Press it", "Sell it fresh", "Decide later")
CHOSEN = OPTIONS[0]
QUESTION = "The cold store has room for **90 t** only. What becomes of the rest?"
FORECAST = "./forecast --week 48"
ENDED = "14 t go to the press"

CHART = {
    "kind": "bar",
    "title": "Picked and planned, in tonnes",
    "labels": ["North", "South", "Hill"],
    "series": [{"name": "planned", "values": [40, 35, 25]}, {"name": "picked", "values": [46, 33, 25]}],
}

TABLE = """\
## The three big orchards

- **North** has been above its plan since Tuesday
- **South** lost *two days* to the rain
- **Hill** is where it should be

| Orchard | Planned | Picked | Share |
|---|--:|--:|--:|
| North | 40 t | 46 t | 115 % |
| South | 35 t | 33 t | 94 % |
| Hill | 25 t | 25 t | 100 % |

It is taken from the scales' own list:

```sql
SELECT orchard, sum(tonnes)
FROM scales GROUP BY orchard;
```
"""

SETTINGS = """\
[agent]
model = "openai:test"
workspace = "workspace"
workspaces = "shared"
[models.openai]
api_key = "test-key"
base_url = "{models}"
[tools.shell]
on_steer = "finish"
"""


class Screen(Protocol):
    """A group of Ann and Bob on one platform, in which the bot must be mentioned. Waiting is bounded."""

    @property
    def section(self) -> str:
        """What the settings say of it."""

    async def connected(self) -> None:
        """What is said from now on is heard."""

    async def say(self, by: Name, text: str) -> None:
        """Says it to the bot."""

    async def sees(self, text: str) -> None:
        """Returns once the bot shows this text."""

    async def press(self, by: Name, option: str) -> None:
        """Presses a button, once it is there."""

    async def at_rest(self) -> None:
        """Returns once the last message shows that it is read, the others that they are answered."""

    async def at_work(self) -> None:
        """Returns once the running reply can be stopped and says what runs."""

    def html(self) -> str:
        """A page that looks as the platform does."""


async def play(screen: Screen, folder: Path) -> str:
    """The screen's page at the end of the conversation, while the last reply still runs."""
    async with asyncio.timeout(180), ModelServer() as models, _working(screen, models, folder):
        models.script(
            [
                Say(
                    [
                        "I go through all **eleven orchards**, one after the other. First those in the ",
                        "north:",
                        Pause(),
                    ]
                )
            ],
            [Say(TABLE, pieces=12), Call("draw_chart", CHART)],
            [
                Say("South makes up for it if Friday stays dry."),
                Call("ask_user", {"question": QUESTION, "options": list(OPTIONS)}),
            ],
            Say(f"Then {ENDED}, and the cold store is full."),
            [Say("I compute it from the last four weeks."), Call("shell", {"command": FORECAST})],
        )
        await screen.say("Ann", "how is this week's harvest? All orchards, please")
        await screen.sees("in the north:")
        await screen.say("Bob", "only the three big ones, the others are not weighed yet")
        await screen.press("Ann", CHOSEN)
        await screen.sees(ENDED)
        await screen.at_rest()
        await screen.say("Bob", "and how long will the pickers need next week?")
        await screen.at_work()
        assert models.refusals == []
        return screen.html()


@asynccontextmanager
async def _working(screen: Screen, models: ModelServer, folder: Path) -> AsyncIterator[None]:
    forecast = folder / "workspace" / "forecast"
    forecast.parent.mkdir(parents=True)
    forecast.write_text("#!/bin/sh\nsleep 600\n")
    forecast.chmod(0o755)
    file = folder / "interject.toml"
    file.write_text(SETTINGS.format(models=models.openai_url) + screen.section)
    async with gateway(file):
        await screen.connected()
        yield

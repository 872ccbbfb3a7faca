"""What a person alone with the bot sees: a task of five steps, interrupted in the second, and a question at its end."""

from __future__ import annotations

from pathlib import Path

from tests.screens.story import OPTIONS, QUESTION, SETTINGS
from tests.servers.models import Call, ModelServer, Say

FIRST = "Weigh this week's harvest, orchard by orchard"
SECOND = "only the two big ones please, with a chart"
SKIPPED = 3
ANSWER, CHOSEN, ENDED = "2", OPTIONS[1], "the morning market"

TIDY_UP = "Clear out last year's weighings, we have them on paper"

WEIGH = """\
#!/bin/sh
while [ "$1" = south ] && [ ! -e go-on ]; do sleep 0.1; done
echo "$1 is weighed"
"""

CHART = {
    "kind": "bar",
    "title": "Picked and planned, in tonnes",
    "labels": ["North", "South"],
    "series": [{"name": "planned", "values": [40, 35]}, {"name": "picked", "values": [46, 33]}],
}

RESULT = """\
Then *hill*, *lake* and *mill* are left out. The two big ones:

| Orchard | Planned | Picked | Share |
|---|--:|--:|--:|
| North | 40 t | 46 t | 115 % |
| South | 35 t | 33 t | 94 % |
"""


def prepare(folder: Path, models: ModelServer) -> Path:
    """The settings file; what the model will say, and the program that it calls, are laid ready."""
    orchards = ("north", "south", "hill", "lake", "mill")
    models.script(
        [
            Say("I weigh the **five orchards**, one after the other."),
            *(Call("shell", {"command": f"./weigh {orchard}"}) for orchard in orchards),
        ],
        [Say(RESULT), Call("draw_chart", CHART)],
        [
            Say("South is two tonnes short, North makes up for it."),
            Call("ask_user", {"question": QUESTION, "options": list(OPTIONS)}),
        ],
        Say(f"It goes to {ENDED} then: **14 t**."),
    )
    weigh = folder / "workspace" / "weigh"
    weigh.parent.mkdir(parents=True)
    weigh.write_text(WEIGH)
    weigh.chmod(0o755)
    file = folder / "interject.toml"
    file.write_text(SETTINGS.format(models=models.openai_url) + "[web]\nport = 0\n")
    return file


def go_on(folder: Path) -> None:
    """The running step may finish."""
    (folder / "workspace" / "go-on").touch()


def asking_first(folder: Path, models: ModelServer) -> Path:
    """The settings file of a gateway in which commands need approval, and a model that wants to run one."""
    models.script(
        [
            Say("I find **312 files** of last year, 48 MB in all. May I remove them?"),
            Call("shell", {"command": "find weighings/2025 -name '*.csv' -delete"}),
        ],
        Say("Done: they are gone."),
    )
    file = folder / "interject.toml"
    settings = SETTINGS.format(models=models.openai_url).replace('on_steer = "finish"', 'approval = "once"')
    file.write_text(f"{settings}[web]\nport = 0\n")
    return file

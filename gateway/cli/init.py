"""`interject init`: writes a commented interject.toml, and asks for what it needs when a person is there to answer."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from getpass import getpass
from pathlib import Path

from config.channels import CHANNELS
from config.load import FILE, data_directory
from config.models import PROVIDERS, USUAL_KEY
from config.template import Answers, ChannelAnswers, template
from gateway.cli.home import make_home


@dataclass(frozen=True, slots=True)
class _Platform:
    """How a person is asked for a bot: what it is called there, and the words for each of its tokens, by setting."""

    name: str
    bot: str
    tokens: Mapping[str, str]


_PLATFORMS = (
    _Platform("telegram", "a Telegram bot", {"token": "Token from @BotFather"}),
    _Platform(
        "slack",
        "a Slack app",
        {"bot_token": "Bot token xoxb-… from OAuth & Permissions", "app_token": "App token xapp-… for Socket Mode"},
    ),
    _Platform("discord", "a Discord bot", {"token": "Token from the Bot page of the developer portal"}),
)


def init(file: Path | None, environ: Mapping[str, str], *, force: bool) -> int:
    """The exit code: 1 when there is a file already, or it cannot be written."""
    file = file or Path(FILE)
    if file.exists() and not force:
        sys.stderr.write(f"interject: {file} exists already; --force overwrites it\n")
        return 1
    try:
        asked = sys.stdin.isatty() and sys.stdout.isatty()
        home = data_directory(environ)
        answers = ask(Person(input, getpass), home / "secrets") if asked else Answers()
        if file.absolute().parent == home.absolute():
            make_home(home)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(template(answers), encoding="utf-8")
    except OSError as error:
        sys.stderr.write(f"interject: {file} cannot be written: {error.strerror}\n")
        return 1
    except EOFError:
        sys.stderr.write("\ninterject: nothing was written\n")
        return 1
    sys.stdout.write(f'Wrote {file}. "interject check" says whether it holds, "interject run" starts the gateway.\n')
    return 0


@dataclass(frozen=True, slots=True)
class Person:
    """Who answers: `ask` in the open, `ask_hidden` without showing what is typed."""

    ask: Callable[[str], str]
    ask_hidden: Callable[[str], str]


def ask(person: Person, secrets: Path) -> Answers:
    """What the person answers; keys that are typed go into files of their own in `secrets`, in the data directory."""
    model = _ask_model(person)
    provider = model.partition(":")[0]
    if model == "demo":
        base_url = key = None
    else:
        base_url = (
            person.ask("Its address, if it is another server than the provider's (Enter: none): ").strip() or None
        )
        key = _ask_secret(person, f"{provider} API key", USUAL_KEY[provider], secrets / f"{provider}-api-key")
    channels = [channel for platform in _PLATFORMS if (channel := _ask_channel(person, platform, secrets)) is not None]
    return Answers(model, key, base_url, tuple(channels))


def _ask_channel(person: Person, platform: _Platform, secrets: Path) -> ChannelAnswers | None:
    if person.ask(f"Add {platform.bot}? (y/N): ").strip().lower() not in ("y", "yes"):
        return None
    tokens = {
        setting: _ask_secret(person, words, *_usual_places(platform, setting, secrets))
        for setting, words in platform.tokens.items()
    }
    return ChannelAnswers(platform.name, tokens, _ask_allowed(person, platform))


def _usual_places(platform: _Platform, setting: str, secrets: Path) -> tuple[str, Path]:
    """The environment variable where a token is looked for, and the file where one that is typed is kept."""
    variable = next(iter(CHANNELS[platform.name].model_fields[setting].examples or ()))
    file = secrets / f"{platform.name}-{setting.replace('_', '-')}"
    return str(variable).strip("${}"), file


def _ask_model(person: Person) -> str:
    known = "|".join(PROVIDERS)
    while True:
        model = person.ask("Model, like openai:gpt-5 (Enter: demo, which works offline): ").strip() or "demo"
        if model == "demo" or re.fullmatch(rf"({known}):\S+", model):
            return model
        person.ask(f'That is neither "demo" nor provider:name with a provider of {", ".join(PROVIDERS)}. (Enter) ')


def _ask_secret(person: Person, what: str, variable: str, file: Path) -> str:
    """A reference to the secret: to the environment, or to the file that it was put into."""
    typed = person.ask_hidden(f"{what} (hidden; Enter: it is in the environment variable {variable}): ").strip()
    if not typed:
        return f"${{{variable}}}"
    make_home(file.parent.parent)
    file.parent.mkdir(mode=0o700, exist_ok=True)
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(f"{typed}\n")
    return f"file:{file}"


def _ask_allowed(person: Person, platform: _Platform) -> tuple[str, ...]:
    """Ids as they are, names with their @."""
    given = person.ask("Who may write to it: user ids and @names, or * for everybody (Enter: nobody yet): ")
    is_id = CHANNELS[platform.name].people.is_id
    names = given.replace(",", " ").split()
    return tuple(name if name == "*" or is_id(name) or name.startswith("@") else f"@{name}" for name in names)

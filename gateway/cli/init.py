"""`interject init`: writes a commented interject.toml; in a terminal it asks for model, keys and bots first."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from getpass import getpass
from pathlib import Path

from config.channels import CHANNELS
from config.errors import ConfigurationError
from config.load import FILE, data_directory
from config.models import provider_and_name
from config.presets import PRESETS, Preset
from config.template import Answers, ChannelAnswers, template
from gateway.cli.home import make_home
from gateway.cli.program import program


@dataclass(frozen=True, slots=True)
class _Platform:
    """How a person is asked for a bot: what the platform calls it, and a prompt for each token, by setting."""

    name: str
    bot: str
    prompts: Mapping[str, str]


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
    """Returns the exit code: 1 when the file exists already or cannot be written."""
    file = file or Path(FILE)
    if file.exists() and not force:
        sys.stderr.write(f"interject: {file} exists already; --force overwrites it\n")
        return 1
    try:
        is_interactive = sys.stdin.isatty() and sys.stdout.isatty()
        home = data_directory(environ)
        answers = ask(Person(input, getpass), home / "secrets") if is_interactive else Answers()
        if file.absolute().parent == home.absolute():
            make_home(home)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(template(answers), encoding="utf-8")
    except OSError as error:
        sys.stderr.write(f"interject: {file} cannot be written: {error.strerror}\n")
        return 1
    except ConfigurationError as error:
        sys.stderr.write(f"interject: {error}\n")
        return 1
    except EOFError:
        sys.stderr.write("\ninterject: nothing was written\n")
        return 1
    name = program()
    sys.stdout.write(f'Wrote {file}. Next: "{name} check" validates it, "{name} run" starts the gateway.\n')
    return 0


@dataclass(frozen=True, slots=True)
class Person:
    """Who answers the prompts; `ask_hidden` does not show what is typed."""

    ask: Callable[[str], str]
    ask_hidden: Callable[[str], str]


def ask(person: Person, secrets: Path) -> Answers:
    """The person's answers. Each key that is typed is stored in a file in `secrets`, in the data directory."""
    model = _ask_model(person)
    if model == "demo":
        base_url = key = None
    else:
        provider, _ = provider_and_name(model)
        base_url = _ask_base_url(person, PRESETS[provider])
        variable = PRESETS[provider].key_variable
        file = secrets / f"{provider}-api-key"
        key = _ask_secret(person, f"{provider} API key", variable, file) if variable else None
    channels = [channel for platform in _PLATFORMS if (channel := _ask_channel(person, platform, secrets)) is not None]
    return Answers(model, key, base_url, tuple(channels))


def _ask_base_url(person: Person, preset: Preset) -> str | None:
    prompt = f"Base URL, if not {preset.base_url} (Enter: none): " if preset.base_url else "Base URL of your resource: "
    return person.ask(prompt).strip() or None


def _ask_channel(person: Person, platform: _Platform, secrets: Path) -> ChannelAnswers | None:
    if person.ask(f"Add {platform.bot}? (y/N): ").strip().lower() not in ("y", "yes"):
        return None
    tokens = {
        setting: _ask_secret(person, prompt, *_secret_places(platform, setting, secrets))
        for setting, prompt in platform.prompts.items()
    }
    return ChannelAnswers(platform.name, tokens, _ask_allowed(person, platform))


def _secret_places(platform: _Platform, setting: str, secrets: Path) -> tuple[str, Path]:
    """The environment variable of a token, and the file that stores one that is typed."""
    variable = next(iter(CHANNELS[platform.name].model_fields[setting].examples or ()))
    file = secrets / f"{platform.name}-{setting.replace('_', '-')}"
    return str(variable).strip("${}"), file


def _ask_model(person: Person) -> str:
    refused = ""
    while True:
        model = person.ask(f"{refused}Model, like openai:gpt-5 (Enter: demo, which works offline): ").strip() or "demo"
        provider, name = provider_and_name(model)
        if model == "demo" or (provider in PRESETS and name):
            return model
        refused = f'Not a model: enter "demo" or provider:name; providers are {", ".join(PRESETS)}.\n'


def _ask_secret(person: Person, prompt: str, variable: str, file: Path) -> str:
    """A reference to the secret: to the environment variable, or to the file that stores it."""
    typed = person.ask_hidden(f"{prompt} (hidden; Enter: use the environment variable {variable}): ").strip()
    if not typed:
        return f"${{{variable}}}"
    make_home(file.parent.parent)
    file.parent.mkdir(mode=0o700, exist_ok=True)
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(f"{typed}\n")
    return f"file:{file}"


def _ask_allowed(person: Person, platform: _Platform) -> tuple[str, ...]:
    """User ids unchanged, names with an @ before them."""
    answer = person.ask("Allowed users (allowlist): user ids and @names, or * for everybody (Enter: nobody yet): ")
    is_id = CHANNELS[platform.name].people.is_id
    names = answer.replace(",", " ").split()
    return tuple(name if name == "*" or is_id(name) or name.startswith("@") else f"@{name}" for name in names)

"""The README and the pages in docs/, held to the code."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from config.channels import CHANNELS
from config.models import KEY_VARIABLES, PROVIDERS
from config.settings import WebSettings
from config.tools import TOOLS
from gateway.assembly.build import build
from gateway.cli.checks.discord import DISCORD_PERMISSIONS, discord_invitation
from gateway.cli.checks.slack import SLACK_SCOPES
from gateway.store.records import BusyMode
from tests.config.conftest import Operator

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {"web": WebSettings, **CHANNELS}
TOKENS = {
    "TELEGRAM_BOT_TOKEN": "1:a",
    "SLACK_BOT_TOKEN": "xoxb",
    "SLACK_APP_TOKEN": "xapp",
    "DISCORD_BOT_TOKEN": "d",
    **{KEY_VARIABLES[provider]: "sk" for provider in PROVIDERS},
}
IN_ROOT = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")


def page(channel: str) -> str:
    return (DOCS / f"{channel}.md").read_text(encoding="utf-8")


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def examples(text: str) -> list[str]:
    return re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def in_first_column(table: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)


def section(text: str, heading: str) -> str:
    return text.partition(f"## {heading}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("channel", PAGES)
def test_every_setting_of_a_channel_is_named_on_its_page(channel: str) -> None:
    assert sorted(in_first_column(section(page(channel), "Settings"))) == sorted(PAGES[channel].model_fields)


@pytest.mark.parametrize("channel", PAGES)
def test_the_examples_of_a_page_are_settings_that_hold(operator: Operator, channel: str) -> None:
    assert examples(page(channel))
    for example in examples(page(channel)):
        operator.settings(example, **TOKENS)


@pytest.mark.parametrize("channel", [*PAGES, "terminal"])
def test_every_page_says_what_works_what_does_not_and_how_to_check(channel: str) -> None:
    headings = re.findall(r"^## (.*)$", page(channel), re.MULTILINE)
    assert headings[-3:] == ["What works", "What does not", "Check"]
    assert "`interject check" in page(channel)


@pytest.mark.parametrize("file", [*IN_ROOT, *(f"docs/{page.name}" for page in sorted(DOCS.glob("*.md")))])
def test_what_a_page_links_to_or_shows_is_in_this_repository(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    for target in re.findall(r"""(?:\]\(|src=")(?!https?:)([^)#"]+)""", text):
        assert (ROOT / file).parent.joinpath(target).is_file(), target


def test_the_examples_of_the_readme_are_settings_that_hold_each_alone_and_all_together(operator: Operator) -> None:
    written = examples(readme())
    for example in (*written, "\n".join(written)):
        operator.settings(example, **TOKENS)
    assert set(operator.settings("\n".join(written), **TOKENS).channels) == set(CHANNELS)


def test_the_readme_names_every_tool_and_every_page() -> None:
    named = re.findall(r"`(\w+)`", section(readme(), "Tools"))
    assert set(TOOLS) <= set(named)
    assert {f"docs/{page.name}" for page in DOCS.glob("*.md")} <= set(re.findall(r"\]\(([^)]+)\)", readme()))


async def test_the_page_of_commands_has_each_with_an_example(operator: Operator) -> None:
    async with build(operator.start("[web]\nenabled = false")) as built:
        commands = built.gateway.commands.list()
    rows = re.findall(r"^\| `/(\w+)` \| `/(\w+)( ?)[^`]*` \|", section(page("commands"), "Commands"), re.MULTILINE)
    # An example is of its command, and says something behind it where something may be said.
    assert rows == [(each.name, each.name, " " if each.arguments else "") for each in commands]


def test_the_page_of_commands_has_every_busy_mode() -> None:
    assert tuple(in_first_column(section(page("commands"), "Busy modes"))) == get_args(BusyMode)


def test_the_page_of_discord_names_the_permissions_that_the_invitation_asks_for() -> None:
    for permission in DISCORD_PERMISSIONS:
        assert f"*{permission}*" in page("discord")
    permissions = discord_invitation("1").rpartition("permissions=")[2]
    assert permissions in page("discord")


class TestTheManifestOfSlack:
    def test_asks_for_the_scopes_that_are_looked_for(self) -> None:
        assert sorted(text_list(manifest(), "oauth_config", "scopes", "bot")) == sorted(SLACK_SCOPES)

    def test_subscribes_to_what_the_channel_hears(self) -> None:
        assert text_list(manifest(), "settings", "event_subscriptions", "bot_events") == [
            "agent_session_stopped",
            "app_mention",
            "message.channels",
            "message.groups",
            "message.im",
            "message.mpim",
        ]

    def test_is_for_socket_mode_with_buttons_and_a_slash_command(self) -> None:
        tree = manifest()
        assert at(tree, "settings", "socket_mode_enabled") == "true"
        assert at(tree, "settings", "interactivity", "is_enabled") == "true"
        assert at(tree, "features", "app_home", "messages_tab_read_only_enabled") == "false"
        (command,) = listed(tree, "features", "slash_commands")
        assert at(command, "command") == "/interject"
        assert at(tree, "features", "agent_view", "agent_description")

    def test_stays_within_the_lengths_that_slack_allows(self) -> None:
        """https://docs.slack.dev/reference/app-manifest"""
        tree = manifest()
        assert len(str(at(tree, "display_information", "name"))) <= 35
        assert len(str(at(tree, "display_information", "description"))) <= 140
        assert len(str(at(tree, "features", "bot_user", "display_name"))) <= 80


# The little of YAML that the manifest is written in: mappings and lists of text, plain or quoted, two blanks deeper.

Yaml = str | list["Yaml"] | dict[str, "Yaml"]
Line = tuple[int, str]


def manifest() -> Yaml:
    lines = list(lines_of((DOCS / "slack-manifest.yaml").read_text(encoding="utf-8")))
    tree, rest = read(lines, 0)
    assert not rest, f"does not belong anywhere: {rest[0]}"
    return tree


def lines_of(text: str) -> Iterator[Line]:
    """Each line's indentation and words. What follows "- " becomes a line of its own, indented by two more."""
    for line in text.splitlines():
        words = line.lstrip(" ")
        if not words or words.startswith("#"):
            continue
        indent = len(line) - len(words)
        assert "\t" not in line
        assert indent % 2 == 0, line
        if words.startswith("- "):
            yield indent, "-"
            indent, words = indent + 2, words.removeprefix("- ")
        yield indent, words


def read(lines: list[Line], indent: int) -> tuple[Yaml, list[Line]]:
    """What stands at this indentation, and the lines after it."""
    if lines[0] == (indent, "-"):
        items: list[Yaml] = []
        while lines and lines[0] == (indent, "-"):
            item, lines = read(lines[1:], indent + 2)
            items.append(item)
        return items, lines
    if not re.match(r"\w+:( |$)", lines[0][1]):
        return scalar(lines[0][1]), lines[1:]
    tree: dict[str, Yaml] = {}
    while lines and lines[0][0] == indent and lines[0][1] != "-":
        name, _, value = lines[0][1].partition(":")
        assert re.fullmatch(r"\w+", name), lines[0]
        assert name not in tree, f"{name} stands there twice"
        if value:
            tree[name], lines = scalar(value.strip()), lines[1:]
        else:
            tree[name], lines = read(lines[1:], indent + 2)
    return tree, lines


def scalar(words: str) -> str:
    if words.startswith('"'):
        assert re.fullmatch(r'"[^"\\]*"', words), words
        return words[1:-1]
    # What would mean something else to YAML must be quoted.
    assert not re.search(r"^[-?:,\[\]{}#&*!|>'%@`]|: | #|:$", words), words
    return words


def at(tree: Yaml, *path: str) -> Yaml:
    for name in path:
        assert isinstance(tree, dict)
        tree = tree[name]
    return tree


def listed(tree: Yaml, *path: str) -> list[Yaml]:
    found = at(tree, *path)
    assert isinstance(found, list)
    return found


def text_list(tree: Yaml, *path: str) -> list[str]:
    return [str(each) for each in listed(tree, *path)]

"""The pages of the channels, held to the code."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import CHANNELS, WebSettings
from gateway.commands_line.check import DISCORD_PERMISSIONS, SLACK_SCOPES, discord_invitation
from tests.config.conftest import Operator

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {"web": WebSettings, **CHANNELS}
TOKENS = {
    "TELEGRAM_BOT_TOKEN": "1:a",
    "SLACK_BOT_TOKEN": "xoxb",
    "SLACK_APP_TOKEN": "xapp",
    "DISCORD_BOT_TOKEN": "d",
}


def page(channel: str) -> str:
    return (DOCS / f"{channel}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("channel", PAGES)
def test_every_setting_of_a_channel_is_named_on_its_page(channel: str) -> None:
    settings = page(channel).partition("## Settings")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `(\w+)` \|", settings, re.MULTILINE)
    assert sorted(named) == sorted(PAGES[channel].model_fields)


@pytest.mark.parametrize("channel", PAGES)
def test_the_examples_of_a_page_are_settings_that_hold(operator: Operator, channel: str) -> None:
    examples = re.findall(r"^```toml\n(.*?)^```", page(channel), re.MULTILINE | re.DOTALL)
    assert examples
    for example in examples:
        operator.settings(example, **TOKENS)


@pytest.mark.parametrize("channel", [*PAGES, "terminal"])
def test_every_page_says_what_works_what_does_not_and_how_to_check(channel: str) -> None:
    headings = re.findall(r"^## (.*)$", page(channel), re.MULTILINE)
    assert headings[-3:] == ["What works", "What does not", "Check"]
    assert "`interject check" in page(channel)


@pytest.mark.parametrize("channel", [*PAGES, "terminal"])
def test_what_a_page_links_to_in_this_repository_is_there(channel: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page(channel)):
        assert (DOCS / target).is_file(), target


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

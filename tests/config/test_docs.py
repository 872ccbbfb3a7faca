"""The README and the pages in docs/, held to the code."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from agent.tool import Tool
from config.channels import CHANNELS
from config.presets import key_variables
from config.tools import TOOLS
from config.web import WebSettings
from gateway.assembly.build import build
from gateway.cli.checks.discord import DISCORD_PERMISSIONS, discord_invitation
from gateway.cli.checks.slack import SLACK_SCOPES
from gateway.store.records import BusyMode, RunState
from tests.config.conftest import Operator

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {"web": WebSettings, **CHANNELS}
TOKENS = {
    "TELEGRAM_BOT_TOKEN": "1:a",
    "SLACK_BOT_TOKEN": "xoxb",
    "SLACK_APP_TOKEN": "xapp",
    "DISCORD_BOT_TOKEN": "d",
    "GITHUB_TOKEN": "g",
    "DOCS_TOKEN": "d",
    "MCP_CLIENT_SECRET": "m",
    "PROXY_KEY_1": "sk-1",
    "PROXY_KEY_2": "sk-2",
    **dict.fromkeys(key_variables().values(), "sk"),
}
NOT_FILES = {"agent.media", "site/"}
MAX_README_LINES = 150
PAGES_IN_DOCS = [str(file.relative_to(ROOT)) for file in sorted(DOCS.rglob("*.md"))]
LINKED = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "examples/README.md",
    "tests/scenarios/README.md",
    *PAGES_IN_DOCS,
]


def page(name: str) -> str:
    """A page by its name, on whichever shelf it is."""
    (file,) = DOCS.rglob(f"{name}.md")
    return file.read_text(encoding="utf-8")


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def examples(text: str) -> list[str]:
    return re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def in_first_column(table: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)


def in_first_column_all(table: str) -> list[list[str]]:
    """Where a cell may have several names."""
    return [re.findall(r"`([^`]+)`", cell) for cell in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)]


def section(text: str, heading: str) -> str:
    return text.partition(f"## {heading}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("channel", PAGES)
def test_every_setting_of_a_channel_is_named_on_its_page(channel: str) -> None:
    assert sorted(in_first_column(section(page(channel), "Settings"))) == sorted(PAGES[channel].model_fields)


@pytest.mark.parametrize("channel", PAGES)
def test_the_examples_of_a_page_are_valid_settings(operator: Operator, channel: str) -> None:
    assert examples(page(channel))
    for example in examples(page(channel)):
        operator.settings(example, **TOKENS)


@pytest.mark.parametrize("channel", [*PAGES, "terminal"])
def test_every_page_says_what_works_what_does_not_and_how_to_check(channel: str) -> None:
    headings = re.findall(r"^## (.*)$", page(channel), re.MULTILINE)
    assert headings[-3:] == ["What works", "What does not", "Check"]
    assert "`interject check" in page(channel)


def links(text: str) -> list[tuple[str, str]]:
    """The relative links and pictures of a page, without blocks of code: path and anchor, of which one may be ""."""
    found = re.findall(r"""(?:\]\(|src=")(?!\w+:)([^)#"\s]*)(?:#([^)"\s]*))?[)"]""", without_code(text))
    return [(path, anchor) for path, anchor in found if path or anchor]


def anchors(text: str) -> set[str]:
    """As GitHub and mkdocs make them of headings."""
    headings = re.findall(r"^#+ (.*)$", without_code(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("file", LINKED)
def test_every_relative_link_and_anchor_of_a_page_leads_somewhere_in_this_repository(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    for path, anchor in links(text):
        target = (ROOT / file).parent / path if path else ROOT / file
        assert target.is_file(), path
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{path}#{anchor}"


def test_links_and_anchors_are_found_where_they_are() -> None:
    text = '# A heading: *two* parts\n[a](b.md#c) [d](#e) ![f](g.png)\n```\n[h](i.md)\n```\n<img src="j.png"> [k](https://l/m)'
    assert links(text) == [("b.md", "c"), ("", "e"), ("g.png", ""), ("j.png", "")]
    assert anchors(text) == {"a-heading-two-parts"}


def test_every_file_that_contributing_names_exists() -> None:
    """By its path from the root, or by its name where its folder was named in the same paragraph."""
    for paragraph in re.split(r"\n\n|\n(?=\d+\. |- |\| )", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        named = [name for name in re.findall(r"`([\w/.<>*-]+)`", paragraph) if re.search(r"\.\w+$|/$", name)]
        paths = [name.replace("<platform>", "telegram") for name in named]
        folders = {ROOT / path if path.endswith("/") else (ROOT / path).parent for path in paths if "/" in path}
        folders |= {
            ROOT,
            ROOT / "gateway",
            ROOT / "agent",
            ROOT / "channels" / "telegram",
            ROOT / "tests" / "scenarios",
        }
        for path in paths:
            places = [ROOT] if "/" in path.rstrip("/") else folders
            assert any([*place.glob(path.rstrip("/"))] for place in places) or path in NOT_FILES, path


def test_the_readme_is_short_and_begins_with_a_picture() -> None:
    assert len(readme().splitlines()) <= MAX_README_LINES
    assert "![" in readme().partition("\n## ")[0]


def test_every_page_is_linked_from_the_index_and_has_its_place_in_the_site() -> None:
    names = {file.removeprefix("docs/") for file in PAGES_IN_DOCS} - {"index.md"}
    assert {path for path, _ in links(page("index")) if path.endswith(".md")} == names
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert names <= set(re.findall(r"^ +- [^:]+: (.*\.md)$", site, re.MULTILINE))


@pytest.mark.parametrize(
    "term",
    [
        *("permission", "allowlist", "rate limit", "webhook", "deploy", "system prompt", "context window", "subagent"),
        *("environment variable", "HTTP API"),
    ],
)
def test_a_term_that_a_reader_searches_for_is_in_the_readme_or_the_docs(term: str) -> None:
    text = " ".join(
        "\n".join((ROOT / file).read_text(encoding="utf-8") for file in ["README.md", *PAGES_IN_DOCS]).split()
    )
    assert term.lower() in text.lower()


def test_the_page_of_the_http_api_names_every_state_of_a_run() -> None:
    rows = in_first_column_all(section(page("http-api"), "Runs"))
    assert {state for row in rows for state in row if "/" not in state} == set(get_args(RunState))


def test_the_examples_of_the_readme_are_valid_settings_each_alone_and_all_together(operator: Operator) -> None:
    written = examples(readme())
    for example in (*written, "\n".join(written)):
        operator.settings(example, **TOKENS)
    assert set(operator.settings("\n".join(written), **TOKENS).channels) == set(CHANNELS)


def test_the_readme_names_every_tool_and_every_page() -> None:
    named = re.findall(r"`(\w+)`", section(readme(), "Tools"))
    assert set(TOOLS) <= set(named)
    assert set(PAGES_IN_DOCS) <= {path for path, _ in links(readme())}


def test_the_tool_of_the_readme_is_one() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", readme(), re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    word_count = names["word_count"]
    assert isinstance(word_count, Tool)
    assert (word_count.name, word_count.effect) == ("word_count", "read")


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
    def test_asks_for_the_scopes_that_are_checked(self) -> None:
        assert sorted(text_list(manifest(), "oauth_config", "scopes", "bot")) == sorted(SLACK_SCOPES)

    def test_subscribes_to_the_events_that_the_channel_handles(self) -> None:
        assert text_list(manifest(), "settings", "event_subscriptions", "bot_events") == [
            "agent_session_stopped",
            "app_home_opened",
            "app_mention",
            "channel_id_changed",
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
    lines = list(lines_of((DOCS / "reference" / "slack-manifest.yaml").read_text(encoding="utf-8")))
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

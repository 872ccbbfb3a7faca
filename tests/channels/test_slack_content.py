"""All that people see in a Slack message is what the model reads."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels.message import FileRef, ForeignText
from channels.slack.parse import people
from tests.channels.test_slack_parse import Json, direct, event, heard, message, read

TABLE = {
    "type": "table",
    "rows": [
        [{"type": "raw_text", "text": "Item A"}, {"type": "raw_text", "text": "1200"}],
        [
            {
                "type": "rich_text",
                "elements": [{"type": "rich_text_section", "elements": [{"type": "text", "text": "B|C"}]}],
            }
        ],
    ],
}
MARKDOWN_TABLE = "| Item A | 1200 |\n| --- | --- |\n| B\\|C |  |"


def section(text: str, *fields: str) -> Json:
    return {"type": "section", "text": mrkdwn(text), "fields": [mrkdwn(field) for field in fields]}


def mrkdwn(text: str) -> Json:
    return {"type": "mrkdwn", "text": text}


def plain(text: str) -> Json:
    return {"type": "plain_text", "text": text}


def rich(*elements: Json) -> Json:
    return {"type": "rich_text", "elements": list(elements)}


def words(*elements: Json, kind: str = "rich_text_section", **fields: Any) -> Json:
    return {"type": kind, "elements": list(elements), **fields}


def t(text: str, **style: bool) -> Json:
    return {"type": "text", "text": text, "style": style}


def alert(**fields: Any) -> Json:
    """A message of another program."""
    base = message()["event"] | {"user": None, "bot_id": "B2", "subtype": "bot_message", "username": "Alerts"}
    return event(base | fields)


def test_a_pasted_table_comes_with_the_words() -> None:
    attachment = {"fallback": "[no preview available]", "blocks": [TABLE]}
    found = heard(direct(text="what is the total", attachments=[attachment]))
    assert found.text == f"what is the total\n\n{MARKDOWN_TABLE}"


ALERTS: list[tuple[Json, str]] = [
    (
        {"attachments": [{"fallback": "[no preview available]", "blocks": [section("disk full on *db1*")]}]},
        "disk full on *db1*",
    ),
    (
        {
            "text": "New alert",
            "blocks": [
                section("", "*Host*\ndb1", "*Use*\n99 %"),
                {"type": "context", "elements": [mrkdwn("by <@UBOB>"), plain("at 9")]},
            ],
        },
        "New alert\n\n*Host*\ndb1\n*Use*\n99 %\nby @Bob at 9",
    ),
    ({"text": "disk full", "blocks": [section("Disk *full*!")]}, "Disk *full*!"),
    ({"text": "This content can't be displayed.", "blocks": [{"type": "header", "text": plain("A <b>")}]}, "## A <b>"),
    (
        {
            "attachments": [
                {
                    "fallback": "x",
                    "pretext": "Build",
                    "title": "42",
                    "title_link": "https://ci/42",
                    "text": "red",
                    "fields": [{"title": "Branch", "value": "main"}],
                    "footer": "CI",
                }
            ]
        },
        "Build\n42 (https://ci/42)\nred\nBranch: main\nCI",
    ),
    ({"attachments": [{"fallback": "only this is there"}]}, "only this is there"),
    (
        {"attachments": [{"image_url": "https://e.org/graph.png", "fallback": "[no preview available]"}]},
        "https://e.org/graph.png",
    ),
    (
        {
            "blocks": [
                {"type": "image", "image_url": "https://e.org/a.png", "alt_text": "a graph", "title": plain("CPU")}
            ]
        },
        "CPU\n![a graph](https://e.org/a.png)",
    ),
    (
        {
            "blocks": [
                {
                    "type": "actions",
                    "elements": [
                        {"type": "button", "text": plain("Approve")},
                        {"type": "button", "text": plain("Deny")},
                    ],
                }
            ]
        },
        "[Approve] [Deny]",
    ),
    ({"blocks": [{"type": "markdown", "text": "**a < b** for <@UBOB>"}]}, "**a < b** for @Bob"),
    (
        {
            "blocks": [
                {"type": "video", "title": plain("How to"), "description": plain("in 3 steps"), "alt_text": "a film"}
            ]
        },
        "How to\nin 3 steps\na film",
    ),
    (
        {
            "blocks": [
                {"type": "card", "title": mrkdwn("Invoice"), "body": mrkdwn("1200 €")},
                {"type": "plan", "title": "Work", "tasks": [{"title": "step 1"}]},
            ]
        },
        "Invoice\n1200 €\nWork\nstep 1",
    ),
    (
        {
            "blocks": [
                {
                    "type": "data_table",
                    "rows": [[{"type": "raw_text", "text": "n"}], [{"type": "raw_number", "value": 5}]],
                }
            ]
        },
        "| n |\n| --- |\n| 5 |",
    ),
    ({"blocks": [{"type": "hologram", "beam": 3}]}, "[a kind of message that I cannot read: hologram]"),
    (
        {"text": "up", "blocks": [{"type": "section", "text": 5}, {"type": "table", "rows": 3}]},
        "up\n\n[a kind of message that I cannot read: table]",
    ),
]


@pytest.mark.parametrize(("fields", "text"), ALERTS)
def test_messages_of_programs(fields: Json, text: str) -> None:
    assert heard(alert(**fields)).text == text


def test_rich_text_alone_is_markdown() -> None:
    block = rich(
        words(
            t("see "),
            t("this ", bold=True),
            {"type": "link", "url": "https://e.org/?a|b", "text": "page"},
            t(" "),
            {"type": "user", "user_id": "UBOB"},
        ),
        words(words(t("one")), words(t("two", italic=True)), kind="rich_text_list", style="ordered", indent=0),
        words(words(t("deep")), kind="rich_text_list", style="bullet", indent=1),
        words(words(t("three")), kind="rich_text_list", style="ordered", indent=0),
        words(t("if a < b:\n  go"), kind="rich_text_preformatted"),
        words(t("he said"), kind="rich_text_quote"),
        words(
            {"type": "emoji", "name": "tada"},
            {"type": "broadcast", "range": "here"},
            {"type": "usergroup", "usergroup_id": "S1"},
        ),
    )
    body = direct(text="", blocks=[block])
    assert people(body) == {"UANN", "UBOB"}
    assert heard(body).text == (
        "see **this** page (https://e.org/?a%7Cb) @Bob\n1. one\n2. _two_\n    - deep\n3. three\n"
        "```\nif a < b:\n  go\n```\n> he said\n:tada:@here@S1"
    )


def test_what_the_composer_writes_twice_is_read_once() -> None:
    block = rich(words(t("a "), t("b", bold=True), {"type": "link", "url": "https://e.org"}))
    assert heard(direct(text="a *b*<https://e.org|e.org>", blocks=[block])).text == "a *b*https://e.org"
    assert heard(direct(text="look", blocks=[rich(words(t("look"))), TABLE])).text == f"look\n\n{MARKDOWN_TABLE}"


def test_a_message_passed_on_is_read_whole() -> None:
    inner = {"message": {"blocks": [section("disk full"), TABLE]}}
    shared = {"is_share": True, "author_subname": "Alerts", "bot_id": "B2", "text": "", "message_blocks": [inner]}
    assert heard(direct(text="", attachments=[shared])).text == f"disk full\n{MARKDOWN_TABLE}"
    assert heard(direct(text="why?", attachments=[shared])).note == (
        f'Forwarded from Alerts: "disk full\n{MARKDOWN_TABLE}"'
    )


def test_a_colleagues_message_that_is_passed_on_is_known_as_theirs() -> None:
    body = direct(
        text="true?", attachments=[{"is_share": True, "author_id": "UBOB", "author_name": "Bob", "text": "<@UEVE>"}]
    )
    assert people(body) == {"UANN", "UBOB", "UEVE"}
    assert [author.id for author in heard(body).quoted] == ["UBOB"]


def test_the_preview_of_a_link_is_text_from_outside() -> None:
    preview = {"from_url": "https://e.org/x", "service_name": "E", "title": "A page", "text": "its &lt;words&gt;"}
    found = heard(direct(text="see <https://e.org/x>", attachments=[preview]))
    assert found.text == "see https://e.org/x"
    assert found.foreign == (ForeignText("the preview of https://e.org/x", "A page\nits <words>"),)


def test_files_that_are_no_files() -> None:
    files = [
        {"id": "F1", "mode": "tombstone"},
        {"id": "F2", "mode": "hidden_by_limit"},
        {"id": "F3", "mode": "list", "title": "Tasks"},
        {"no": "id"},
    ]
    found = heard(direct(text="all", subtype="file_share", files=files))
    assert found.files == ()
    assert found.text.split("\n") == [
        "all",
        "[a file that was deleted]",
        "[a file that Slack hides: it is older than the workspace's plan shows]",
        "[a kind of message that I cannot read: the Slack list Tasks]",
        "[a kind of message that I cannot read: a file]",
    ]


def test_a_canvas_is_a_page() -> None:
    canvas = {
        "id": "F1",
        "name": "canvas",
        "title": "Plan",
        "mimetype": "application/vnd.slack-docs",
        "size": 9,
        "url_private": "https://s/plan",
        "url_private_download": "https://s/d/plan",
    }
    assert heard(direct(text="", files=[canvas])).files == (
        FileRef("F1 https://s/plan", "Plan.html", "application/vnd.slack-docs"),
    )


# --- a part that cannot be read --------------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", ["bare <|x>", "<>", "<@>", "<#>", "<!>", "<|>", "a <!subteam^> b", "<https://|>"])
def test_odd_markup_costs_no_words(odd: str) -> None:
    found = heard(direct(text=f"before {odd} after"))
    assert found.text.startswith("before ")
    assert found.text.endswith(" after")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5) | st.sampled_from(["rich_text", "mrkdwn"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "elements", "rows", "fields", "id", "mode", "style", "url", "title", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
KINDS = ["rich_text", "section", "table", "context", "image", "header", "actions", "markdown", "odd"]
BLOCK = st.tuples(st.sampled_from(KINDS), JSON).map(
    lambda given: {"type": given[0], "text": given[1], "elements": given[1], "rows": given[1], "fields": given[1]}
)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["blocks", "attachments", "files", "edited", "bot_profile", "username", "metadata"]),
        st.lists(BLOCK | JSON, max_size=3) | JSON,
    ),
    st.sampled_from([None, "B2"]),
)
def test_whatever_comes_beside_them_the_words_are_read(beside: Json, bot_id: str | None) -> None:
    body = message(text="the words that count", bot_id=bot_id, **beside)
    people(body)
    found = read(body)
    assert found is not None
    assert "the words that count" in found.text

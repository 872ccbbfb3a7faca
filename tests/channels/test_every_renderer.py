"""Nasty markdown through every renderer: nothing raises, nothing exceeds, no word is lost, nobody is called, no link is
made that was not written.

The limits of each platform stand in its validator, with their sources.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from html import unescape
from typing import Any, assert_never
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.media import Attachment
from channels.address import Address
from channels.discord import render as discord
from channels.reply import ApprovalDecision, CallSegment, MediaSegment, QuestionSegment, Reply, Segment, TextSegment
from channels.slack import render as slack
from channels.telegram import render as telegram
from channels.terminal import render as terminal
from gateway.api.events import ReplyShown, encoded
from gateway.api.items import reply_change, reply_item
from tests.channels.test_markdown import MARKDOWN
from tests.channels.test_telegram_limits import NASTY, REPLIES, missing, taken
from tests.channels.test_telegram_limits import said as said_in
from tests.servers.slack import Slack

PNG = Attachment("a" * 64, "chart.png", "image/png", 5000, 640, 480)
STATUS_LINE = "running shell <!here> @everyone"
WIDE, BARE = terminal.Style(width=40, color=True), terminal.Style()

CALLS_FOR_PEOPLE = re.compile(r"@(?:everyone|here)|<@[!&]?\d+>|<#\d+>|</[\w ]+:\d+>|<id:\w+>")
"""Of Discord: https://discord.com/developers/docs/reference#message-formatting"""

ATTACKS = (
    "@everyone @here <@7> <@!7> <@&8> <#9> </stop:12> <:smile:13> <t:0:R> <id:home>",
    "<!here> <!channel> <!everyone> <!subteam^S1|all> <@U1> <#C1|x> <mailto:a@b.c|mail> &lt;!here&gt;",
    "`@everyone <!here>` and\n\n```\n@everyone <!here> <@7>\n```\n\n> @everyone\n\n- <!channel>\n\n# <@7>\n",
    "| @everyone | <!here> |\n|---|---|\n| <@7> | [x](javascript:alert(1)) |",
    "[<!here>](https://e.org) [@everyone](https://e.org) [https://good.org](https://bad.org)",
    "<https://e.org|click> <javascript:alert(1)|click> [x](tg://user?id=7) [y](discord://x) [z](slack://open)",
    '[a](https://e.org/x)[b](<https://e.org/)> ![pic](https://e.org/p.png) [c](https://e.org/"onclick=x)',
    "\\<!here> \\@everyone \\<@7> \\[x\\](https://e.org) &#64;everyone &commat;here <\u200b@7>",
    "@\u200beveryone @every**one** <**@7**> <!he`re`> @ev\u00aderyone",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b]8;;https://bad.org\x1b\\here\x1b]8;;\x1b\\ \x9b2J\r\x08\x0b",
    "data: x\n\nevent: history\ndata: {}\n\n\u2028\u2029 </script><script>alert(1)</script>",
)


def reply_of(markdown: str, *, done: bool = True) -> Reply:
    """All kinds of segments that carry words."""
    segments = (
        TextSegment("t1", markdown, interrupted=not done),
        MediaSegment("m1", PNG, markdown),
        QuestionSegment(
            "q:4f0c_3_0", markdown or "?", (markdown[:80] or "yes", "no"), open=not done, answer=markdown[:120]
        ),
    )
    return Reply("4f0c5d6e", Address("x", "9", "7"), None, segments, "" if done else STATUS_LINE, done)


def whole(text: str) -> str:
    """Without halves of surrogate pairs, which have a row of their own."""
    return re.sub("[\ud800-\udfff]", "?", text)


CORPUS = tuple(map(whole, (*NASTY, *ATTACKS)))


def keyed(reply: Reply) -> Reply:
    """With a key of its own for each segment, as replies have them."""
    segments = (_keyed(segment, number) for number, segment in enumerate(reply.segments))
    return replace(reply, status=whole(reply.status), segments=tuple(segments))


def _keyed(segment: Segment, number: int) -> Segment:
    match segment:
        case TextSegment():
            return replace(segment, key=f"t{number}", markdown=whole(segment.markdown))
        case MediaSegment():
            return replace(segment, key=f"m{number}", caption=whole(segment.caption))
        case CallSegment():
            return replace(segment, key=f"c{number}", name=whole(segment.name), title=whole(segment.title))
        case QuestionSegment():
            options = tuple(map(whole, segment.options))
            question, answer = whole(segment.question), whole(segment.answer)[:120]
            return replace(segment, key=f"{segment.key}{number}", question=question, options=options, answer=answer)
        case _:
            assert_never(segment)


def said(reply: Reply) -> str:
    """Without the numbers of lists, whose items may be empty."""
    return re.sub(r"^\d+[.)]$", "", "\n".join(map(said_in, reply.segments)), flags=re.MULTILINE)


# --- Telegram --------------------------------------------------------------------------------------------------------


def shown_by_telegram(reply: Reply) -> str:
    """`taken` holds it against the limits of https://core.telegram.org/bots/api. Names call nobody: that takes an
    entity, which only an @username of letters becomes."""
    contents = [piece.content for piece in telegram.render(reply)]
    for content in contents:
        html = content.html if isinstance(content, telegram.Text) else content.caption
        check_links(re.findall(r'href="([^"]*)"', html), reply)
    return "\n".join(map(taken, contents))


# --- Slack -----------------------------------------------------------------------------------------------------------

READER = Slack().reader


def shown_by_slack(reply: Reply) -> str:
    shown: list[str] = []
    for piece in slack.render(reply):
        match piece.content:
            case slack.Text() as text:
                for repeat in (False, True):
                    blocks = slack.blocks_of(text, repeat=repeat)
                    check_slack_blocks(blocks)
                    read = READER.blocks(blocks)
                    assert read.pings == []
                    check_links(read.links, reply)
                check_slack_blocks(slack.plain_blocks_of(text, repeat=True))
                # https://docs.slack.dev/reference/methods/chat.update: 4,000 characters.
                assert len(slack.fallback_of(text)) <= 4000
                assert READER.mrkdwn(slack.fallback_of(text)).pings == []
                if text.growing:
                    assert text.markdown.startswith(text.settled)
                # https://docs.slack.dev/reference/methods/chat.startStream: task fields of 256 characters.
                assert all(len(task.title) <= 256 for task in text.tasks)
                # As written: how deep in lists and quotes words are still shown, only Slack knows.
                shown += [text.markdown, *(button.label for button in text.buttons)]
            case slack.Media() as media:
                comment = READER.mrkdwn(slack.comment_of(media, repeat=True))
                assert comment.pings == []
                assert len(slack.comment_of(media, repeat=True)) <= 4000
                assert len(slack.alt_of(media)) <= 1000
                shown.append(READER.mrkdwn(slack.comment_of(media)).plain)
            case content:
                assert_never(content)
    return "\n".join(shown)


def check_slack_blocks(blocks: list[dict[str, Any]]) -> None:
    """https://docs.slack.dev/reference/block-kit/blocks: each kind of block has a page with its limits.

    All blocks together: https://github.com/slackapi/bolt-js/issues/2509 (13,200 characters).
    """
    assert 1 <= len(blocks) <= 50
    markdown = [block["text"] for block in blocks if block["type"] == "markdown"]
    assert sum(map(len, markdown)) <= 12_000
    assert len(json.dumps(blocks, ensure_ascii=False)) <= 13_200 + 1_500 * len(blocks)
    for block in blocks:
        match block["type"]:
            case "markdown":
                assert block["text"].strip()
            case "section":
                assert 1 <= len(block["text"]["text"]) <= 3000
            case "context":
                assert 1 <= len(block["elements"]) <= 10
                assert all(1 <= len(element["text"]) <= 3000 for element in block["elements"])
            case "actions":
                buttons = block["elements"]
                assert 1 <= len(buttons) <= 25
                assert len({button["action_id"] for button in buttons}) == len(buttons)
                assert all(1 <= len(button["action_id"]) <= 255 for button in buttons)
                assert all(1 <= len(button["text"]["text"]) <= 75 for button in buttons)
                assert all(len(button["value"]) <= 2000 for button in buttons)
            case kind:
                raise AssertionError(f"we make no {kind}")


# --- Discord ---------------------------------------------------------------------------------------------------------

MASKED = re.compile(r"(?<!\\)\]\(<?([^)>\s]*)")


def shown_by_discord(reply: Reply) -> str:
    """https://discord.com/developers/docs/resources/message#create-message, …/components/reference#button.

    Who is mentioned is decided by `allowed_mentions`, which is empty; that nothing looks like it is for people's eyes.
    """
    shown: list[str] = []
    for piece in discord.render(reply):
        match piece.content:
            case discord.Text() as text:
                assert text.markdown.strip() or text.buttons
                assert discord.utf16(text.markdown) <= 2000
                rows = discord.components(text.buttons)
                assert len(rows) <= 5
                assert all(1 <= len(row["components"]) <= 5 for row in rows)
                carried = [button.data for button in text.buttons]
                assert len(set(carried)) == len(carried)
                assert all(1 <= len(each) <= 100 for each in carried)
                assert all(1 <= discord.utf16(button.label) <= 80 and button.label.strip() for button in text.buttons)
                assert 1 <= len(text.nonce) <= 25
                written = text.markdown
                shown += [written, *(button.label for button in text.buttons)]
            case discord.Media() as media:
                assert discord.utf16(media.caption) <= 2000
                assert 1 <= len(media.nonce) <= 25
                written = media.caption
                shown.append(written)
            case content:
                assert_never(content)
        assert CALLS_FOR_PEOPLE.search(without_code(written)) is None
        check_links(MASKED.findall(without_code(written)), reply)
    return "\n".join(shown)


def without_code(written: str) -> str:
    """Code calls nobody: https://support.discord.com/hc/articles/210298617"""
    without_blocks = re.sub(r"```.*?```", "", written, flags=re.DOTALL)
    return re.sub(r"(?<![\\`])(`+)(?!`).*?(?<!`)\1(?!`)", "", without_blocks, flags=re.DOTALL)


# --- the terminal ----------------------------------------------------------------------------------------------------

STYLE = re.compile(r"\x1b\[[0-9;]*m")
STEERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def shown_by_the_terminal(reply: Reply) -> str:
    """Besides the styles of ours nothing may steer the terminal: ECMA-48, control characters and sequences."""
    return "\n".join(shown_with(reply, style) for style in (WIDE, BARE))


def shown_with(reply: Reply, style: terminal.Style) -> str:
    _, parts = terminal.advance(terminal.PrintState(), reply, style)
    shown: list[str] = []
    for part in parts:
        match part:
            case terminal.TextPart(text):
                plain = STYLE.sub("", text) if style.color else text
                assert STEERS.search(plain) is None
                shown.append(plain)
            case terminal.FilePart(_, caption):
                shown.append(caption)
            case _:
                assert_never(part)
    return "\n".join(shown)


# --- the web ---------------------------------------------------------------------------------------------------------


def shown_by_the_web(reply: Reply) -> str:
    """https://html.spec.whatwg.org/multipage/server-sent-events.html: one event, whose data is one line of JSON."""
    before = Reply(reply.id, reply.address, None, (TextSegment("t1", "", open=True),))
    whole = ReplyShown(conversation="web:local:c", turn=reply.id, reply=reply_item(reply))
    for event in (whole, reply_change("web:local:c", before, reply)):
        match encoded(event, "3f-1").decode().split("\n"):
            case ["id: 3f-1", name, data, "", ""]:
                assert name == f"event: {event.type}"
                wire = json.loads(data.removeprefix("data: "))
            case sent:
                raise AssertionError(f"not one event: {sent}")
        said = event.model_dump(exclude={"at"})
        sendable = json.dumps(said, ensure_ascii=False).encode(errors="replace").decode()
        assert wire | {"at": ""} == json.loads(sendable) | {"at": ""}
    return json.dumps(json.loads(sendable), ensure_ascii=False).replace("\\n", "\n")


# --- all of them -----------------------------------------------------------------------------------------------------

RENDERERS: dict[str, Callable[[Reply], str]] = {
    "telegram": shown_by_telegram,
    "slack": shown_by_slack,
    "discord": shown_by_discord,
    "terminal": shown_by_the_terminal,
    "web": shown_by_the_web,
}
over = pytest.mark.parametrize("shown_by", RENDERERS.values(), ids=RENDERERS)


def check_links(addresses: Iterable[str], reply: Reply) -> None:
    """A link goes where the model wrote that it goes, and never into an app."""
    written = canonical("\n".join(_written(reply)))
    for address in addresses:
        assert re.match(r"https?://|mailto:", address, re.IGNORECASE), address
        assert canonical(address) in written


def canonical(text: str) -> str:
    """Without what writing an address down, in Markdown, HTML or JSON, changes in it."""
    return re.sub(r"[\\\s\u200b]", "", unquote(unescape(text)))


def _written(reply: Reply) -> Iterator[str]:
    for segment in reply.segments:
        match segment:
            case TextSegment(markdown=markdown):
                yield markdown
            case MediaSegment(caption=caption):
                yield caption
            case QuestionSegment():
                yield "\n".join((segment.question, *segment.options, segment.answer))
            case _:
                pass


@over
@pytest.mark.parametrize("markdown", CORPUS, ids=range(len(CORPUS)))
def test_the_corpus_is_shown_within_the_limits_and_no_word_is_lost(
    shown_by: Callable[[Reply], str], markdown: str
) -> None:
    for reply in (reply_of(markdown), reply_of(markdown, done=False)):
        assert missing(said(reply), shown_by(reply)) == ""


@over
def test_the_corpus_is_shown_while_it_grows(shown_by: Callable[[Reply], str]) -> None:
    for markdown in CORPUS:
        for end in range(0, min(len(markdown), 120), 7):
            reply = Reply(
                "r", Address("x", "9", "7"), None, (TextSegment("t", markdown[:end], open=True),), STATUS_LINE
            )
            assert missing(said(reply), shown_by(reply)) == ""


@over
@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    markdown=st.lists(MARKDOWN | st.sampled_from(CORPUS), max_size=4).map("\n\n".join).map(whole), done=st.booleans()
)
def test_any_markdown_is_shown_within_the_limits_and_no_word_is_lost(
    shown_by: Callable[[Reply], str], markdown: str, done: bool
) -> None:
    reply = reply_of(markdown, done=done)
    assert missing(said(reply), shown_by(reply)) == ""


@over
@settings(max_examples=40, deadline=None, derandomize=True)
@given(reply=REPLIES.map(keyed))
def test_any_reply_is_shown_within_the_limits_and_no_word_is_lost(
    shown_by: Callable[[Reply], str], reply: Reply
) -> None:
    assert missing(said(reply), shown_by(reply)) == ""


MAY_I = "**May I use `shell`?** Can access files and network outside the workspace.\n\ncommand:\n```\nrm -rf build\n```"
ALLOW = ("Allow once", "Allow for this conversation", "Deny")


@over
@pytest.mark.parametrize(
    ("answer", "decision"),
    [
        ("Allowed for this conversation by Ada", "allowed"),
        ("Denied by Ada: it is @everyone's *own* `rm`", "denied"),
        ("Nobody decided in time", "undecided"),
    ],
)
def test_a_decision_is_shown_in_words_that_are_none_of_its_options(
    shown_by: Callable[[Reply], str], answer: str, decision: ApprovalDecision
) -> None:
    asked = QuestionSegment("d:4f0c5d6e7a8b_12_3", MAY_I, ALLOW, step=1)
    decided = replace(asked, open=False, answer=answer, decision=decision)
    opened = shown_by(Reply("4f0c5d6e", Address("x", "9", "7"), None, (asked,), parked=True))
    assert missing("".join(("MayIuse", "rmrfbuild", *ALLOW)), opened) == ""
    for segments in ((decided,), (decided, TextSegment("t2", "So be it."))):
        closed = shown_by(Reply("4f0c5d6e", Address("x", "9", "7"), None, segments, done=True))
        assert missing("".join(("MayIuse", "rmrfbuild", answer)), closed) == ""


@over
def test_what_is_told_of_the_work_is_shown_once_it_cannot_change(shown_by: Callable[[Reply], str]) -> None:
    thought, done = "> Hm, *which*?\n>\n> The first.", "- ✓ `shell: ls`\n- ✗ `shell: @everyone` failed: no\\!"
    segments = tuple(TextSegment(key, text, step=1, secondary=True) for key, text in (("r1", thought), ("a1", done)))
    reply = Reply("4f0c5d6e", Address("x", "9", "7"), None, (*segments, TextSegment("t2", "There.", step=2)), done=True)
    assert missing(said(reply), shown_by(reply)) == ""


@over
def test_half_a_surrogate_pair_is_shown_as_something_else(shown_by: Callable[[Reply], str]) -> None:
    """A model's JSON may hold one; UTF-8 cannot."""
    reply = reply_of("one \ud83d two")
    shown = shown_by(reply)
    assert missing("one two", shown) == ""
    assert whole(shown) == shown

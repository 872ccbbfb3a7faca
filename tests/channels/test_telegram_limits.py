"""Whatever a turn says, Telegram takes it: every rendered form, held against the limits that are documented.

https://core.telegram.org/bots/api: sendmessage, sendphoto, inlinekeyboardbutton, formatting-options.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, assert_never

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.media import Attachment
from channels.address import Address
from channels.markdown import Block, Code, Heading, Listing, Paragraph, Quote, Rule, Table, parse, plain
from channels.reply import CallSegment, MediaSegment, QuestionSegment, Reply, Segment, TextSegment
from channels.telegram.channel import TelegramChannel
from channels.telegram.render import Button, Media, Text, render, repeated
from tests.channels.test_markdown import MARKDOWN
from tests.channels.test_sync import MemoryLedger
from tests.channels.test_telegram_channel import Shelf, png
from tests.servers.telegram import BotApi, parse_html, utf16

FENCE = "```"
PNG = Attachment("a" * 64, "chart.png", "image/png", 5000, 640, 480)
PDF = Attachment("b" * 64, "notes.pdf", "application/pdf", 5000)

STYLES = {"bold", "italic", "strikethrough", "text_link"}
BLANK_LETTERS = "\u115f\u1160\u3164\uffa0"


# --- what Telegram accepts -------------------------------------------------------------------------------------------


def taken(content: Text | Media) -> str:
    """What people read of the message, its buttons included. Fails where Telegram would refuse it."""
    match content:
        case Text(html, buttons):
            assert len(buttons) <= 100
            for source in (html, repeated(html)):
                assert 1 <= utf16(read(source).strip()) <= 4096
            return "\n".join([read(html), *map(label_of, buttons)])
        case Media(caption=caption):
            for source in (caption, repeated(caption)):
                assert utf16(read(source)) <= 1024
            return read(caption)
        case _:
            assert_never(content)


def label_of(button: Button) -> str:
    assert button.label.strip()
    assert utf16(button.label) <= 60
    assert 1 <= len(button.data.encode()) <= 64
    return button.label


def read(html: str) -> str:
    """The plain text of HTML that is well formed, in which nothing stands where it may not."""
    text, entities = parse_html(html)
    text.encode()
    for entity in entities:
        inside = {other["type"] for other in entities if other is not entity and overlap(entity, other)}
        match entity["type"]:
            case "pre" | "code":
                assert not inside & (STYLES | {"pre", "code"})
            case "blockquote" | "expandable_blockquote":
                assert not inside & {"blockquote", "expandable_blockquote"}
            case "text_link":
                assert "text_link" not in inside
                assert re.match(r"https?://[^\s/]+\.", entity["url"])
    return text


def overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    begin = max(one["offset"], other["offset"])
    return bool(begin < min(one["offset"] + one["length"], other["offset"] + other["length"]))


# --- messages --------------------------------------------------------------------------------------------------------


def said(segment: Segment) -> str:
    """Words that people must be able to read, in this order."""
    match segment:
        case TextSegment(markdown=markdown):
            return words_of(parse(markdown))
        case MediaSegment(caption=caption):
            return words_of(parse(caption))
        case QuestionSegment(question=question, options=options, open=True):
            return "\n".join([words_of(parse(question)), *options])
        case QuestionSegment(question=question, answer=answer):
            return f"{words_of(parse(question))}\n{answer}"
        case CallSegment():
            return ""
        case _:
            assert_never(segment)


def words_of(blocks: Iterable[Block]) -> str:
    return "\n".join(map(words_of_block, blocks))


def words_of_block(block: Block) -> str:
    match block:
        case Paragraph(spans) | Heading(spans):
            return "".join(span.text for span in spans)
        case Code(text):
            return text
        case Quote(blocks):
            return words_of(blocks)
        case Listing(items):
            return "\n".join(f"{item.marker}\n{words_of(item.blocks)}" for item in items)
        case Table(head, rows):
            return "\n".join(plain(cell) for row in (head, *rows) for cell in row)
        case Rule():
            return ""
        case _:
            assert_never(block)


def letters(text: str) -> Iterator[str]:
    return (c for c in text if c.isalnum() and c.isprintable() and c not in BLANK_LETTERS)


def missing(said: str, shown: str) -> str:
    """The first letters of what was said that are not, in their order, in what is shown."""
    rest = iter(shown)
    lost = [letter for letter in letters(said) if letter not in rest]
    return "".join(lost[:20])


# --- anything --------------------------------------------------------------------------------------------------------

# Lengths beside the limits are tried on purpose: chance alone seldom meets them.
NEAR = st.builds(str.__mul__, st.sampled_from("x👍"), st.integers(440, 560) | st.integers(870, 1100))
LONG = st.builds(str.__mul__, MARKDOWN, st.sampled_from([1, 1, 1, 7, 40])) | NEAR | NEAR.map(lambda text: text * 4)
LINES = st.text(max_size=90) | MARKDOWN.map(lambda text: text[:90]) | NEAR.map(lambda text: text[:70])
TEXTS = st.builds(
    TextSegment, st.just("t"), LONG, interrupted=st.booleans(), new_message=st.booleans(), secondary=st.booleans()
)
MEDIA = st.builds(MediaSegment, st.just("m"), st.sampled_from([PNG, PDF]), LONG)
QUESTIONS = st.builds(
    QuestionSegment,
    st.sampled_from(["q:4f0c5d6e_3_0", "q:" + "x" * 60]),
    LONG,
    st.lists(LINES, max_size=6).map(tuple) | st.just(tuple(f"option {n}" for n in range(120))),
    open=st.booleans(),
    answer=LINES,
)
CALLS = st.builds(CallSegment, st.just("c"), LINES, LINES, st.just("running"))
REPLIES = st.builds(
    Reply,
    st.sampled_from(["run-1", "x" * 80]),
    st.just(Address("telegram", "9", "7")),
    st.none(),
    st.lists(TEXTS | MEDIA | QUESTIONS | CALLS, max_size=5).map(tuple),
    LONG,
    done=st.booleans(),
    parked=st.booleans(),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(REPLIES)
def test_every_form_of_any_reply_is_taken_and_no_word_is_lost(reply: Reply) -> None:
    pieces = render(reply)
    shown = "\n".join(taken(piece.content) for piece in pieces)
    assert missing("\n".join(map(said, reply.segments)), shown) == ""


# --- and Telegram itself ---------------------------------------------------------------------------------------------

NASTY = (
    "<b>not bold</b> & <script>x</script> &lt; &#0; &unknown;",
    "**a _b** c_ ~~d `e~~ f` [g](https://e.org/?a=\"1\"&b='2'> 'title')",
    f"{FENCE}py <x>\nx = 1 < 2\n{FENCE}\n> {FENCE}\n> open",
    "> a\n> > b\n> - c\n>   | d | e |\n>   |---|---|\n>   | `f` | g |",
    "| a | b |\n|---|---|\n" + "| one | **two** |\n" * 300,
    "@everyone tg://user?id=7 [me](tg://user?id=7) [x](javascript:alert(1)) /start #tag",
    "👩‍👩‍👧‍👦" * 2000,
    "word" * 3000,
    "\u202egnirts\u202c \x00\x07\ud83d\ufffe e\u0301" + "\u0301" * 500,
    "- " * 100 + "deep\n\n" + ">" * 100 + "deeper",
    "# \n\n- \n\n1. \n\n***\n\n[]()\n\n![](x)",
)


async def test_the_nastiest_is_shown_without_a_single_refusal(api: BotApi) -> None:
    shelf, ann = Shelf(), api.private()
    chart = await shelf.put(png(), "chart.png")
    channel = TelegramChannel("telegram", api.token, api.url, shelf)
    place = Address("telegram", "123456", str(ann.id))
    for number, markdown in enumerate(NASTY):
        asked = QuestionSegment(f"q:{number}_0", markdown, (markdown[:80], markdown[:10]))
        segments = (TextSegment("t1", markdown), MediaSegment("m1", chart, markdown), asked)
        ledger = MemoryLedger()
        await channel.show(Reply(f"run-{number}", place, None, segments, markdown), ledger)
        await channel.show(Reply(f"run-{number}", place, None, segments, done=True), ledger)
    await channel.aclose()
    assert api.refusals == []
    assert missing("\n".join(words_of(parse(markdown)) for markdown in NASTY), "\n".join(ann.texts)) == ""

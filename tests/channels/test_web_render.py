"""What travels to the screen."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.media import Attachment
from channels.address import Address
from channels.reply import CallSegment, MediaSegment, QuestionSegment, Reply, TextSegment
from channels.web.render import Wire, render_change, render_reply

HERE = Address("web", "local", "chat-1")
CHART = Attachment("ab" * 32, "chart.png", "image/png", 12, 3, 4)

_keys = st.sampled_from(["1.a", "1.b", "2.a"])
_segments = st.one_of(
    st.builds(TextSegment, _keys, st.sampled_from(["", "a", "ab", "ab 😀", "b"]), st.booleans(), st.booleans()),
    st.builds(
        CallSegment,
        _keys,
        st.just("shell"),
        st.just("run"),
        st.sampled_from(["running", "done"]),
        st.sampled_from(["", "x"]),
    ),
    st.builds(MediaSegment, _keys, st.just(CHART), st.sampled_from(["", "c"])),
    st.builds(
        QuestionSegment,
        _keys,
        st.just("Which?"),
        st.sampled_from([(), ("one", "two")]),
        st.booleans(),
        st.sampled_from(["", "one"]),
    ),
)
_replies = st.builds(
    Reply,
    st.just("r1"),
    st.just(HERE),
    st.none(),
    st.lists(_segments, max_size=3, unique_by=lambda segment: segment.key).map(tuple),
    st.sampled_from(["", "working"]),
    st.booleans(),
    st.booleans(),
)


def apply(shown: Wire, change: Wire) -> Wire:
    """What every client has to do with a `change`."""
    segments = {each["key"]: each for each in [*shown["segments"], *change["segments"]]}
    for key, added in change["grown"].items():
        segments[key] = segments[key] | {"markdown": segments[key]["markdown"] + added}
    kept = {name: change[name] for name in ("status", "done", "parked")}
    return shown | kept | {"segments": [segments[key] for key in change["order"]]}


@settings(deadline=None)
@given(_replies, _replies)
def test_a_change_turns_what_was_shown_into_what_is(before, now):
    assert apply(render_reply(before).data, render_change(before, now).data) == render_reply(now).data


def test_a_growing_text_travels_as_what_was_added():
    before = Reply(
        "r1", HERE, None, (CallSegment("1.1", "shell", "ls", "done"), TextSegment("2.0", "x" * 10_000, open=True))
    )
    now = replace(before, segments=(before.segments[0], TextSegment("2.0", "x" * 10_000 + " more", open=True)))
    change = render_change(before, now)
    assert change.data["grown"] == {"2.0": " more"}
    assert len(change.encode()) < 200


def test_an_event_is_one_line_of_data_whatever_the_text():
    reply = Reply("r1", HERE, None, (TextSegment("1.0", "a\nb\r\n\ndata: c\u2028"),))
    head, data, *rest = render_reply(reply).encode().decode().split("\n")
    assert (head, rest) == ("event: reply", ["", ""])
    assert data.startswith("data: {")


def test_an_attachment_travels_with_what_its_link_is_made_of():
    data = render_reply(Reply("r1", HERE, None, (MediaSegment("1.0", CHART, "Sales"),))).data
    attachment = data["segments"][0]["attachment"]
    assert (attachment["hash"], attachment["name"], attachment["media_type"]) == ("ab" * 32, "chart.png", "image/png")

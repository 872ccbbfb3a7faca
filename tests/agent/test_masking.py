"""Masking: in which disguises a secret is found, and what is left alone."""

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.masking import MAX_CHANGED, Mask

SECRET = 'sk-"4711"/a+b c\\é'


@pytest.mark.parametrize(
    "written",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        json.dumps(SECRET)[1:-1],
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
    ],
)
def test_a_secret_is_masked_however_it_is_written(written: str) -> None:
    assert Mask([SECRET])(f"before {written} after") == "before [secret] after"


@given(
    secret=st.binary(min_size=8, max_size=40).map(lambda data: data.hex()),
    before=st.binary(max_size=9),
    after=st.binary(max_size=9),
)
def test_a_secret_within_something_in_base64_cannot_be_read_out_of_it(secret: str, before: bytes, after: bytes) -> None:
    encoded = base64.b64encode(before + secret.encode() + after).decode()
    masked = Mask([secret])(encoded)
    around = base64.b64encode(before + after)
    # At either end one character may hold some bits of the secret, and padding may follow.
    assert len(masked.replace("[secret]", "")) <= len(around) + 6
    assert masked.count("[secret]") == 1


@given(
    secrets=st.lists(st.text("abc-", min_size=1, max_size=12), max_size=5),
    text=st.text("abc- ", max_size=60),
)
def test_no_secret_is_left_and_a_text_without_one_is_the_same_object(secrets: list[str], text: str) -> None:
    masked = Mask(secrets)(text)
    long = [secret for secret in secrets if len(secret) >= 8]
    assert not any(secret in masked for secret in long)
    if not any(secret in text for secret in long):
        assert masked is text


def test_of_two_secrets_that_begin_alike_the_longer_goes_first() -> None:
    assert Mask(["abcdefgh", "abcdefgh-ijkl"])("abcdefgh-ijkl abcdefgh!") == "[secret] [secret]!"


def test_all_current_secrets_are_masked_and_the_latest_of_those_before() -> None:
    current = ["the first one"]
    mask = Mask(["a fixed secret"], lambda: current)
    assert mask("the first one") == "[secret]"
    current = [f"the token of person {person}!" for person in range(MAX_CHANGED + 5)]
    assert mask("\n".join(current)) == "\n".join(["[secret]"] * len(current))
    assert mask("the first one, a fixed secret") == "[secret], [secret]"
    current = ["the newest one"]
    assert mask("the newest one, a fixed secret") == "[secret], [secret]"
    assert mask("the first one") == "the first one"


def test_short_secrets_are_words_and_stay() -> None:
    assert Mask(["hunter2", ""])("my hunter2 is hunter2") == "my hunter2 is hunter2"


def test_keys_of_our_own_api_are_masked_though_only_their_hashes_are_known() -> None:
    secret = f"ij_0123456789_{'a-B_c' * 8}xyz"
    assert Mask(())(f"KEY={secret}.") == "KEY=[secret]."
    assert Mask(())("ij_0123456789_short") == "ij_0123456789_short"

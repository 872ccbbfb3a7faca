"""The player itself: what is no scenario is refused, and one that does not come out says where and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.player import DidNotComeOut, play, table
from tests.scenarios.reading import NotReadable, Scenario, read_text

HELLO = """\
# Greetings
tools:
    look(path) reads

## Hello
ann: hello
model says: Hello.
"""


def scenario(text: str) -> Scenario:
    (only,) = read_text(HELLO + text, "greetings.txt")
    return only


async def why(text: str, folder: Path, *, last: float = 60) -> str:
    """What is said about the scenario of a greeting that goes on like this, and does not come out; `last` is for how
    many seconds its last step is waited for."""
    greeting = scenario(text)
    with pytest.raises(DidNotComeOut) as raised:
        await play(greeting, folder, patience=lambda step: last if step == greeting.steps[-1] else 60)
    return str(raised.value)


async def test_a_scenario_that_comes_out_says_nothing(tmp_path: Path) -> None:
    await play(scenario("screen: Hello."), tmp_path)


async def test_a_screen_that_is_another_is_shown_beside_the_expected_one(tmp_path: Path) -> None:
    told = await why("all is done\nscreen: Good morning.", tmp_path, last=0.1)
    assert told.startswith("tests/scenarios/greetings.txt:9: Hello\n`screen: Good morning.`: after 0.1 s")
    assert "-Good morning.\n+Hello." in told
    assert "    heard: hello\n    answered: Hello.\n    completed" in told


async def test_a_log_that_is_another_is_shown_beside_the_expected_one(tmp_path: Path) -> None:
    told = await why("all is done\nlog:\n    heard: hello\n    answered: Hm.\n    …", tmp_path, last=0.1)
    assert "-answered: Hm." in told
    assert "+answered: Hello." in told


async def test_what_the_model_sees_is_held_to_what_is_written_at_once(tmp_path: Path) -> None:
    told = await why("ann: again\nmodel sees:\n    something else\nmodel says: Hello again.", tmp_path)
    assert "greetings.txt:9" in told
    assert "-something else" in told
    assert "+again" in told


async def test_a_request_that_no_step_answers_is_left_over(tmp_path: Path) -> None:
    told = await why("ann: again", tmp_path)
    assert "greetings.txt:5: Hello" in told
    assert "model was asked" in told


async def test_a_call_that_no_step_ends_is_left_over(tmp_path: Path) -> None:
    told = await why('ann: again\nmodel calls: look {"path": "a"}', tmp_path)
    assert "look {'path': 'a'} is running" in told


async def test_a_request_that_is_given_up_unsaid_is_left_over(tmp_path: Path) -> None:
    told = await why("ann: again\nmodel begins: Well\nann: /stop\nall is done", tmp_path)
    assert "model was asked, and that is cancelled" in told


async def test_a_step_that_never_comes_to_be_says_what_is_open(tmp_path: Path) -> None:
    told = await why("look runs", tmp_path, last=0.1)
    assert "greetings.txt:8" in told
    assert "`look runs`: after 0.1 s that was not so" in told


async def test_what_is_given_stands_before_what_happens(tmp_path: Path) -> None:
    assert "this has to stand before anything happens" in await why("while busy: queue", tmp_path)


@pytest.mark.parametrize("line", ["look", "ann says hello", "model sees:", "screen", "look runs: now"])
async def test_a_line_that_is_no_step_is_refused_with_its_place(line: str, tmp_path: Path) -> None:
    with pytest.raises(NotReadable, match=r"greetings\.txt:8: there is no such step"):
        await play(scenario(line), tmp_path)


def test_two_scenarios_with_one_title_are_refused() -> None:
    with pytest.raises(NotReadable, match=r"greetings\.txt:9: there are two scenarios with this title: Hello"):
        read_text(f"{HELLO}\n## Hello\n", "greetings.txt")


def test_a_block_without_a_step_is_refused() -> None:
    with pytest.raises(NotReadable, match=r"greetings\.txt:2"):
        read_text("# Greetings\n    hello\n", "greetings.txt")


def test_every_step_stands_in_the_readme() -> None:
    readme = (Path(__file__).parent / "README.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in table() if line not in readme] == [], "`python -m tests.scenarios` prints them"

"""Times of scheduled tasks, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.schedules import MIN_INTERVAL, ScheduleError, Timing, after_minutes, checked_task, one_time, repeated

NOW = datetime(2026, 3, 27, 12, 0, tzinfo=UTC)
"""A Friday; in Berlin the clocks are put forward on the Sunday after it."""


@pytest.mark.parametrize(
    ("at", "zone", "due"),
    [
        ("2026-03-28T09:00", "Europe/Berlin", "2026-03-28T08:00+00:00"),
        ("2026-03-30 09:00", "Europe/Berlin", "2026-03-30T07:00+00:00"),
        ("2026-03-28T09:00+05:30", "Europe/Berlin", "2026-03-28T03:30+00:00"),
        ("2026-03-28T09:00Z", "", "2026-03-28T09:00+00:00"),
        ("2026-03-28", "UTC", "2026-03-28T00:00+00:00"),
    ],
)
def test_a_moment_is_understood_in_its_time_zone(at: str, zone: str, due: str) -> None:
    found, timing = one_time(at, zone, NOW)
    assert found == datetime.fromisoformat(due)
    assert timing.next(found) is None


def test_the_clock_on_the_wall_counts_for_what_is_repeated() -> None:
    due, timing = repeated("0  9 * * *", "Europe/Berlin", NOW)
    times = [due]
    for _ in range(3):
        following = timing.next(times[-1])
        assert following is not None
        times.append(following)
    assert [f"{time:%d %H:%M}" for time in times] == ["28 08:00", "29 07:00", "30 07:00", "31 07:00"]
    assert timing.shown(times[1]) == "Sunday, 2026-03-29 09:00 Europe/Berlin"


def test_a_zone_that_this_machine_does_not_know_is_taken_for_utc() -> None:
    timing = Timing("0 9 * * *", "Mars/Olympus")
    assert timing.next(NOW) == datetime(2026, 3, 28, 9, tzinfo=UTC)
    assert timing.shown(NOW) == "Friday, 2026-03-27 12:00 UTC"


def test_minutes_are_counted_from_now() -> None:
    assert after_minutes(90, "UTC", NOW)[0] == NOW + timedelta(minutes=90)


@pytest.mark.parametrize(
    ("at", "zone", "words"),
    [
        ("tomorrow", "", "write it like 2026-12-24T09:00"),
        ("", "", "write it like"),
        ("2026-02-30T09:00", "", "write it like"),
        ("9999-12-31T23:59-23:59", "", "write it like"),
        ("2026-03-27T12:00", "UTC", "not in the future"),
        ("2126-03-27T12:00", "UTC", "at most five years"),
        ("2026-04-01T09:00", "Mars/Olympus", "no time zone 'Mars/Olympus'"),
        ("2026-04-01T09:00", "../../etc/passwd", "no time zone"),
    ],
)
def test_no_time_is_refused_in_words(at: str, zone: str, words: str) -> None:
    with pytest.raises(ScheduleError, match=words.replace("/", "/")):
        one_time(at, zone, NOW)


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("* * * * *", "at most every 5 minutes"),
        ("*/4 * * * *", "too often"),
        ("0,1 9 * * *", "too often"),
        ("0 9 * *", "five fields"),
        ("* * * * * *", "five fields"),
        ("@daily", "five fields"),
        ("0 25 * * *", "no cron expression"),
        ("a b c d e", "no cron expression"),
        ("0 9 31 2 *", "no cron expression|never comes"),
    ],
)
def test_a_wrong_cron_expression_is_refused_in_words(cron: str, words: str) -> None:
    with pytest.raises(ScheduleError, match=words):
        repeated(cron, "UTC", NOW)


@pytest.mark.parametrize("minutes", [0, -5, float("nan"), float("inf"), 1e300])
def test_no_number_of_minutes_is_refused_in_words(minutes: float) -> None:
    with pytest.raises(ScheduleError):
        after_minutes(minutes, "", NOW)


@pytest.mark.parametrize("task", ["", " \n ", "x" * 4001])
def test_a_task_has_words(task: str) -> None:
    with pytest.raises(ScheduleError):
        checked_task(task)


@given(st.text(max_size=40))
def test_whatever_is_no_cron_expression_is_told(cron: str) -> None:
    try:
        due, timing = repeated(cron, "UTC", NOW)
    except ScheduleError:
        return
    following = timing.next(due)
    assert due > NOW
    assert following is None or following - due >= MIN_INTERVAL


@given(st.text(max_size=40), st.text(max_size=20))
def test_whatever_is_no_time_is_told(at: str, zone: str) -> None:
    try:
        due, _ = one_time(at, zone, NOW)
    except ScheduleError:
        return
    assert due > NOW


@given(
    st.integers(0, 5 * 365 * 24 * 60).map(lambda minutes: NOW + timedelta(minutes=minutes)),
    st.sampled_from(["", "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    st.sampled_from(["0 9 * * *", "30 2 * * *", "*/5 * * * *", "0 0 1 * *", "0 9 * * 1-5", "59 23 31 12 *"]),
)
def test_the_next_time_is_always_later(after: datetime, zone: str, cron: str) -> None:
    following = Timing(cron, zone).next(after)
    assert following is not None
    assert following > after

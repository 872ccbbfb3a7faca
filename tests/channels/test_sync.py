"""The shared difference between what a reply should look like and what the ledger says is shown."""

from collections.abc import Sequence

import pytest

from agent.media import MediaUnavailable
from channels.channel import (
    Ledger,
    OutcomeUnknown,
    Refused,
    RetryLater,
    Sent,
    ServerFailed,
    Undeliverable,
    Unreachable,
)
from channels.sync import STATUS, Piece, sync_pieces


class MemoryLedger:
    """A ledger that a crash does not lose."""

    def __init__(self) -> None:
        self.kept: dict[str, Sent] = {}
        self.failures = 0
        self.may_send = True

    def pieces(self) -> tuple[Sent, ...]:
        return tuple(self.kept.values())

    async def sending(self, key: str) -> None:
        self.kept[key] = Sent(key, "unknown")

    async def sent(self, key: str, ref: str, digest: str) -> None:
        self.kept[key] = Sent(key, "shown", ref, digest)

    async def rename(self, old: str, new: str) -> None:
        self.kept = {
            (new if k == old else k): (Sent(new, s.state, s.ref) if k == old else s) for k, s in self.kept.items()
        }

    async def removed(self, key: str) -> None:
        self.kept.pop(key, None)

    async def simplified(self, key: str) -> None:
        self.kept[key] = Sent(key, "simplified")

    async def undeliverable(self, key: str, reason: str) -> None:
        self.kept[key] = Sent(key, "undeliverable", reason=reason)

    def permit(self) -> None:
        if not self.may_send:
            raise Unreachable("not now")

    def failed(self, key: str) -> bool:
        self.failures += 1
        return self.failures >= 3


class Board:
    """A platform in memory: messages in order, and a count of calls."""

    def __init__(self, together: int = 1) -> None:
        self.messages: dict[str, str] = {}
        self.calls: list[str] = []
        self.firsts: list[str] = []
        self.errors: list[Exception] = []
        self.performs_before_error = False
        self.most = together
        self.accepts = 10
        self._next = 0

    @property
    def screen(self) -> list[str]:
        return list(self.messages.values())

    def batch_size(self, contents: Sequence[str]) -> int:
        return min(self.most, len(contents))

    async def send(self, contents: Sequence[str], *, first: bool, repeat: bool) -> Sequence[str]:
        self.calls.append(f"send {'+'.join(contents)}")
        if self.errors and not self.performs_before_error:
            raise self.errors.pop(0)
        refs = []
        for content in contents[: self.accepts]:
            self._next += 1
            refs.append(str(self._next))
            self.messages[refs[-1]] = f"{content} (repeat?)" if repeat else content
        if first:
            self.firsts.append(contents[0])
        if self.errors:
            raise self.errors.pop(0)
        return refs

    async def edit(self, ref: str, content: str, *, repeat: bool) -> bool:
        self.calls.append(f"edit {content}")
        if ref not in self.messages:
            return False
        self.messages[ref] = f"{content} (repeat?)" if repeat else content
        return True

    async def delete(self, ref: str) -> None:
        self.calls.append("delete")
        self.messages.pop(ref, None)

    def simpler(self, content: str) -> Sequence[str]:
        """What is refused contains a "!"; a picture has no simpler form."""
        return () if content.startswith("picture") else content.replace("!", "").split("/")

    def notice(self, content: str, reason: str) -> str:
        return f"not shown: {reason}"


def pieces(*contents: str) -> tuple[Piece[str], ...]:
    """ "a=hello" is piece a; a key in capitals is media; "status=…" is the status."""
    made = []
    for each in contents:
        key, _, content = each.partition("=")
        made.append(Piece(key, content, content, editable=not key.isupper()))
    return tuple(made)


async def show(board: Board, ledger: Ledger, *contents: str) -> None:
    await sync_pieces(pieces(*contents), ledger, board)


async def test_new_pieces_are_sent_in_order_and_only_once() -> None:
    board, ledger = Board(), MemoryLedger()
    await show(board, ledger, "a=one", "b=two")
    await show(board, ledger, "a=one", "b=two")
    assert board.calls == ["send one", "send two"]
    assert board.firsts == ["one"]


async def test_only_what_changed_is_edited() -> None:
    board, ledger = Board(), MemoryLedger()
    await show(board, ledger, "a=one", "b=tw")
    await show(board, ledger, "a=one", "b=two", "c=three")
    assert board.calls[2:] == ["edit two", "send three"]
    assert board.screen == ["one", "two", "three"]


@pytest.mark.parametrize("wanted", [("a=other",), ("a=one", "b=two"), ()], ids=["edit", "send", "delete"])
async def test_a_process_that_may_not_send_makes_no_call(wanted: tuple[str, ...]) -> None:
    board, ledger = Board(), MemoryLedger()
    await show(board, ledger, "a=one", "status=works")
    made = list(board.calls)
    ledger.may_send = False
    with pytest.raises(Unreachable):
        await show(board, ledger, *wanted)
    assert board.calls == made
    ledger.may_send = True
    await show(board, ledger, *wanted)
    assert board.screen == [each.partition("=")[2] for each in wanted]


async def test_the_status_becomes_the_next_text_in_the_same_message() -> None:
    board, ledger = Board(), MemoryLedger()
    await show(board, ledger, "status=works")
    await show(board, ledger, "a=text", "status=works on")
    assert board.calls == ["send works", "edit text", "send works on"]
    await show(board, ledger, "a=text")
    assert board.screen == ["text"]
    assert STATUS not in ledger.kept


async def test_the_status_makes_room_for_a_picture() -> None:
    board, ledger = Board(), MemoryLedger()
    await show(board, ledger, "a=text", "status=draws")
    await show(board, ledger, "a=text", "P=picture", "status=goes on")
    assert board.screen == ["text", "picture", "goes on"]


async def test_a_picture_after_only_a_status_is_again_the_first() -> None:
    board, ledger = Board(), MemoryLedger()
    await show(board, ledger, "status=draws")
    await show(board, ledger, "P=picture")
    assert board.firsts == ["draws", "picture"]


async def test_a_text_that_shrank_or_was_withdrawn_is_taken_down() -> None:
    board, ledger = Board(), MemoryLedger()
    await show(board, ledger, "a=one", "b=two", "c=three")
    await show(board, ledger, "a=one")
    assert board.screen == ["one"]
    await show(board, ledger)
    assert board.screen == []
    assert ledger.kept == {}


async def test_a_message_that_somebody_deleted_is_sent_anew() -> None:
    board, ledger = Board(), MemoryLedger()
    await show(board, ledger, "a=one")
    board.messages.clear()
    await show(board, ledger, "a=one!")
    await show(board, ledger, "a=one!")
    assert board.screen == ["one!"]
    assert len(board.calls) == 3


async def test_a_lost_answer_is_repeated_once_and_says_so_for_good() -> None:
    board, ledger = Board(), MemoryLedger()
    board.errors, board.performs_before_error = [OutcomeUnknown("lost")], True
    with pytest.raises(OutcomeUnknown):
        await show(board, ledger, "a=one")
    await show(board, ledger, "a=one", "b=two")
    await show(board, ledger, "a=one", "b=two")
    assert board.screen == ["one", "one (repeat?)", "two"]
    await show(board, ledger, "a=ONE", "b=two")
    assert board.screen == ["one", "ONE (repeat?)", "two"]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (RetryLater(1), RetryLater),
        (Unreachable("down"), Unreachable),
        (Undeliverable("gone"), Undeliverable),
        (MediaUnavailable("the bucket is away"), Unreachable),
    ],
)
async def test_what_certainly_was_not_sent_is_sent_without_a_note(error: Exception, raised: type[Exception]) -> None:
    board, ledger = Board(), MemoryLedger()
    board.errors = [error]
    with pytest.raises(raised):
        await show(board, ledger, "a=one")
    await show(board, ledger, "a=one")
    assert board.screen == ["one"]


async def test_doubt_survives_a_second_failure() -> None:
    board, ledger = Board(), MemoryLedger()
    board.errors = [OutcomeUnknown("lost"), Unreachable("down")]
    for error in (OutcomeUnknown, Unreachable):
        with pytest.raises(error):
            await show(board, ledger, "a=one")
    await show(board, ledger, "a=one")
    assert board.screen == ["one (repeat?)"]


async def test_a_status_of_unknown_outcome_is_forgotten() -> None:
    board, ledger = Board(), MemoryLedger()
    board.errors = [OutcomeUnknown("lost")]
    with pytest.raises(OutcomeUnknown):
        await show(board, ledger, "status=works")
    await show(board, ledger, "a=text")
    assert board.screen == ["text"]


async def test_pictures_that_are_new_together_go_in_one_call() -> None:
    board, ledger = Board(together=3), MemoryLedger()
    await show(board, ledger, "P=1", "Q=2", "R=3", "S=4")
    assert board.calls == ["send 1+2+3", "send 4"]
    assert [sent.ref for sent in ledger.pieces()] == ["1", "2", "3", "4"]


async def test_the_rest_of_a_call_that_sent_less_follows_without_a_note() -> None:
    board, ledger = Board(together=3), MemoryLedger()
    board.accepts = 1
    await show(board, ledger, "P=1", "Q=2")
    assert board.screen == ["1", "2"]


async def test_a_crash_in_the_middle_leaves_a_trace_and_the_next_process_goes_on() -> None:
    board, ledger = Board(), MemoryLedger()
    await show(board, ledger, "a=one", "status=works")
    await ledger.rename(STATUS, "b")  # and then the process died before the edit
    await show(board, ledger, "a=one", "b=two")
    assert board.screen == ["one", "two"]
    assert board.calls[-1] == "edit two"


# --- what is refused -------------------------------------------------------------------------------------------------


class Strict(Board):
    """Refuses what contains one of the `refused`."""

    def __init__(self, *refused: str, by: type[Undeliverable] = Refused) -> None:
        super().__init__()
        self.refused = refused
        self.by = by

    def _check(self, content: str) -> None:
        if any(each in content for each in self.refused):
            raise self.by("no such words")

    async def send(self, contents: Sequence[str], *, first: bool, repeat: bool) -> Sequence[str]:
        self._check(contents[0])
        return await super().send(contents, first=first, repeat=repeat)

    async def edit(self, ref: str, content: str, *, repeat: bool) -> bool:
        self._check(content)
        return await super().edit(ref, content, repeat=repeat)


async def test_what_is_refused_is_shown_in_a_simpler_form_in_its_place() -> None:
    board, ledger = Strict("!"), MemoryLedger()
    await show(board, ledger, "a=one", "b=two!/three", "c=four")
    assert board.screen == ["one", "two", "three", "four"]
    await show(board, ledger, "a=one", "b=two!/three", "c=four")
    assert len(board.calls) == 4


async def test_a_refused_change_makes_the_message_the_simpler_one() -> None:
    board, ledger = Strict("!"), MemoryLedger()
    await show(board, ledger, "a=on")
    await show(board, ledger, "a=one!/two")
    assert board.screen == ["one", "two"]
    await show(board, ledger, "a=one!/two/three")
    assert board.screen == ["one", "two", "three"]


async def test_what_is_refused_in_any_form_is_explained_and_the_rest_is_shown() -> None:
    board, ledger = Strict("bad"), MemoryLedger()
    await show(board, ledger, "a=one", "b=bad", "c=three")
    assert board.screen == ["one", "not shown: no such words", "three"]
    assert ledger.kept["b"] == Sent("b", "undeliverable", reason="no such words")
    await show(board, ledger, "a=one", "b=bad", "c=three")
    assert len(board.calls) == 3


async def test_of_a_text_that_is_shown_in_part_that_part_stays() -> None:
    board, ledger = Strict("!", "bad"), MemoryLedger()
    await show(board, ledger, "a=one!/bad", "b=two")
    assert board.screen == ["one", "not shown: no such words", "two"]
    await show(board, ledger, "a=one!/bad", "b=two")
    assert board.screen == ["one", "not shown: no such words", "two"]


async def test_the_status_does_not_stay_when_what_it_was_to_become_is_refused() -> None:
    board, ledger = Strict("bad"), MemoryLedger()
    await show(board, ledger, "status=works")
    await show(board, ledger, "a=bad")
    assert board.screen == ["not shown: no such words"]


async def test_a_chat_that_takes_no_files_gets_a_notice() -> None:
    board, ledger = Strict("picture", by=Undeliverable), MemoryLedger()
    await show(board, ledger, "P=picture", "a=one")
    assert board.screen == ["not shown: no such words", "one"]


async def test_where_nothing_can_be_sent_what_is_shown_gets_its_last_state() -> None:
    board, ledger = Board(), MemoryLedger()
    await show(board, ledger, "a=one [stop]", "b=two [stop]", "status=works")
    board.errors = [Undeliverable("closed"), Undeliverable("closed")]
    with pytest.raises(Undeliverable):
        await show(board, ledger, "a=one", "X=picture", "b=two")
    assert board.screen == ["one", "two"]


async def test_a_file_at_which_the_server_fails_again_and_again_counts_as_refused() -> None:
    board, ledger = Strict(), MemoryLedger()
    for _ in range(2):
        board.errors = [ServerFailed("internal error")]
        with pytest.raises(ServerFailed):
            await show(board, ledger, "P=picture", "a=one")
    board.errors = [ServerFailed("internal error")]
    await show(board, ledger, "P=picture", "a=one")
    assert board.screen == ["not shown: internal error", "one"]


async def test_a_text_at_which_the_server_fails_is_never_given_up_here() -> None:
    board, ledger = Board(), MemoryLedger()
    for _ in range(9):
        board.errors = [ServerFailed("internal error")]
        with pytest.raises(ServerFailed):
            await show(board, ledger, "a=one")
    await show(board, ledger, "a=one")
    assert board.screen == ["one"]

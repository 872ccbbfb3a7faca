"""How large a conversation is: what the provider counted for the last answer, and an estimate of what came after."""

from __future__ import annotations

from collections.abc import Sequence

from agent.context.tokens import IMAGE_TOKENS, estimate_transcript, tokens_of
from agent.log import CallEnded, Compacted, Entry, ModelAnswered
from agent.transcript import RenderedTurn, transcript


def size_of_log(entries: Sequence[Entry]) -> int | None:
    """Tokens of the conversation at the end of this turn: the provider's count for its last answer that was not
    interrupted, and an estimate for what came after. 0: unknown since a compaction; None: the turn has no answer."""
    for entry in reversed(entries):
        match entry:
            case Compacted():
                return 0
            case ModelAnswered(interrupted=False, usage=usage):
                counted = usage.input + usage.output
                return counted + _since(entries) if counted else 0
            case _:
                pass
    return None


def conversation_size(past: Sequence[RenderedTurn], entries: Sequence[Entry]) -> int:
    """Tokens of the conversation so far, if a provider has counted a part of it since the last compaction; 0 if not."""
    own = size_of_log(entries)
    if own is not None:
        return own
    later = _since(entries)
    for turn in reversed(past):
        if turn.size is not None:
            return turn.size + later if turn.size else 0
        later += estimate_transcript(turn.exchanges)
    return 0


def _since(entries: Sequence[Entry]) -> int:
    """Estimated tokens after the last answer that was not interrupted."""
    later: list[Entry] = []
    for entry in reversed(entries):
        if isinstance(entry, ModelAnswered) and not entry.interrupted:
            break
        later.append(entry)
    later.reverse()
    ends = [entry for entry in later if isinstance(entry, CallEnded)]
    results = tokens_of(sum(len(end.text) for end in ends)) + IMAGE_TOKENS * sum(len(end.images) for end in ends)
    return results + estimate_transcript(transcript(later))

"""A trace as text: one line for each thing that happened, with a bar on a common scale of time; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import assert_never

from agent.log import Usage
from gateway.outbound.call_lines import code, one_line
from gateway.outbound.wording import dollars, escaped, plain
from gateway.turns.trace import (
    Approval,
    Charge,
    Happening,
    Hooked,
    ModelCall,
    Read,
    Send,
    Span,
    ToolCall,
    Trace,
)

CHAT_ROWS = 24
CHAT_BAR = 8
CHAT_LABEL = 60
"""Characters; a line must fit on a telephone with some wrapping."""


@dataclass(frozen=True, slots=True)
class Row:
    """`label` says what it was on one line of plain text; `kind` is that of its span. Times as in the trace."""

    kind: str
    label: str
    at: float | None
    seconds: float | None


def as_markdown(trace: Trace) -> str:
    """For a chat: the outcome, the total and a waterfall. Calls that people are not shown are not in it, and no text
    that anybody wrote."""
    shown = replace(trace, spans=tuple(span for span in trace.spans if not _is_hidden(span)))
    head = f"**Task {code(trace.turn[:12])}** {summary(trace, partial(escaped, limit=200))}"
    lines = waterfall(shown, limit=CHAT_ROWS, bar=CHAT_BAR, label=CHAT_LABEL)
    fence = "````"
    return "\n".join([head, "", fence, *(line.replace("`", "'") for line in lines), fence])


def _is_hidden(span: Span) -> bool:
    return (isinstance(span, ToolCall) and span.silent) or (isinstance(span, Happening) and span.what == "notice")


def summary(trace: Trace, shown: Callable[[str], str] = plain) -> str:
    """The outcome, how long it took, what it did and what it cost, in one line. `shown` is how reasons are written."""
    models = sum(isinstance(span, ModelCall) for span in trace.spans)
    tools = sum(isinstance(span, ToolCall) and not span.silent for span in trace.spans)
    took = f" after {_seconds(trace.seconds)}" if trace.seconds is not None else ""
    reason = f" ({shown(trace.reason)})" if trace.reason else ""
    counts = f"{_count(models, 'answer')} of the model, {_count(tools, 'tool call')}"
    lost = f"; not delivered: {shown(trace.undeliverable)}" if trace.undeliverable else ""
    return f"{trace.outcome}{took}{reason}: {counts}, {dollars(trace.cost.cost)}{lost}"


def waterfall(trace: Trace, *, limit: int, bar: int, label: int) -> list[str]:
    """At most `limit` lines, with bars of `bar` characters and labels of at most `label`."""
    rows = list(rows_of(trace))
    left_out = max(0, len(rows) - limit)
    half = limit // 2
    lines = [_line(row, trace.end, bar, label) for row in rows]
    return lines if not left_out else [*lines[:half], f"… {left_out} more …", *lines[half + left_out :]]


def _line(row: Row, end: float, bar: int, label: int) -> str:
    at = "      ?" if row.at is None else f"{row.at:7.1f}"
    return f"{at} {_bar(row, end, bar)} {one_line(plain(row.label, 500), label)}"


def _bar(row: Row, end: float, width: int) -> str:
    if row.at is None or end <= 0:
        return "·" * width
    first = min(width - 1, int(row.at / end * width))
    length = max(1, round((row.seconds or 0.0) / end * width))
    filled = min(length, width - first)
    return "·" * first + "█" * filled + "·" * (width - first - filled)


def rows_of(trace: Trace) -> Iterator[Row]:
    """A row for each span, one for pieces of the reply that were shown one after the other, one for each task."""
    for is_shown, spans in groupby(trace.spans, key=_is_shown_piece):
        found = list(spans)
        if is_shown and len(found) > 1:
            yield Row("send", f"{len(found)} pieces of the reply shown", found[0].at, _between(found))
        else:
            yield from (Row(span.kind, label_of(span), span.at, span.seconds) for span in found)
    for task in trace.tasks:
        yield Row("task", f"background {task.handle}: {task.title}, {task.state}", task.at, task.seconds)


def _is_shown_piece(span: Span) -> bool:
    return isinstance(span, Send) and span.state == "shown"


def _between(spans: list[Span]) -> float | None:
    first, last = spans[0].at, spans[-1].at
    return None if first is None or last is None else round(last - first, 3)


def label_of(span: Span) -> str:
    """What it was, on one line, without texts that people or models wrote."""
    match span:
        case Read(messages=messages):
            return f"read {_whose([message.sender or message.source for message in messages])}{_unread(span)}"
        case ModelCall():
            return _model(span)
        case Charge(purpose=purpose, model=model, usage=usage):
            return f"{model or 'tool'}: {purpose}, {_tokens(usage)}"
        case ToolCall():
            return _tool(span)
        case Approval():
            return _approval(span)
        case Happening(what=what, text=text):
            return f"{what}: {text}" if text else what
        case Hooked():
            return _hooks(span)
        case Send(piece=piece, state=state, reason=reason):
            return f"{piece} {state}{f': {reason}' if reason else ''}"
        case _:
            assert_never(span)


def _whose(senders: list[str]) -> str:
    names = ", ".join(dict.fromkeys("background work" if name == "work" else name for name in senders))
    return f"{_count(len(senders), 'message')} of {names}"


def _unread(read: Read) -> str:
    waited = max((message.waited for message in read.messages if message.waited is not None), default=0.0)
    return f", {_seconds(waited)} after it came" if waited >= 0.05 else ""


def _model(call: ModelCall) -> str:
    parts = [_seconds(call.seconds)] if call.seconds is not None else []
    parts += [f"first token {_seconds(call.first_token)}"] if call.first_token is not None else []
    parts += [_tokens(call.usage)]
    parts += [call.outcome] if call.outcome != "answered" else []
    parts += ["changed by hooks"] if call.reviewed else []
    return f"{call.model or 'a hook'}: {', '.join(parts)}"


def _tool(call: ToolCall) -> str:
    parts = [_seconds(call.seconds)] if call.seconds is not None else []
    parts += [call.outcome] if call.outcome not in ("", "done") else []
    parts += ["running"] if not call.outcome else []
    parts += ["changed by hooks"] if call.by_hooks else []
    parts += ["run outside"] if call.external else []
    parts += ["goes on in the background"] if call.background else []
    parts += [_count(call.files, "file")] if call.files else []
    title = one_line(call.title, 40)
    return f"{title} ({', '.join(parts)})" if parts else title


def _hooks(hooked: Hooked) -> str:
    times = f" {hooked.times} times" if hooked.times > 1 else ""
    parts = [_seconds(hooked.seconds)]
    parts += [f"{hooked.ruling} by {hooked.by}"] if hooked.ruling else []
    parts += ["changed"] if hooked.changed else []
    return f"hooks at {hooked.point}{times} ({', '.join(parts)})"


def _approval(approval: Approval) -> str:
    asked = f"approval of {approval.tool or f'a {approval.subject}'}"
    by = f" by {approval.by}" if approval.by else ""
    waited = f", after {_seconds(approval.seconds)}" if approval.seconds is not None else ""
    return f"{asked}: {approval.decision.replace('_', ' ') or 'waits'}{by}{waited}"


def _tokens(usage: Usage) -> str:
    cost = f", {dollars(usage.cost)}" if usage.cost else ""
    return f"{usage.input:,} → {usage.output:,} tokens{cost}"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "? s"
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _count(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count:,} {what}s"

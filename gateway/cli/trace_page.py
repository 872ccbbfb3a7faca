"""A trace as a page in one file: no script, nothing loaded from elsewhere; pure."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from gateway.outbound.wording import plain
from gateway.turns.trace import Read, Span, ToolCall, Trace
from gateway.turns.trace_text import label_of, summary

_STYLE = """\
:root { color-scheme: light dark; --text: #1c1c1e; --soft: #5c5c66; --line: #d8d8de; --page: #ffffff; }
@media (prefers-color-scheme: dark) { :root { --text: #f0f0f2; --soft: #a4a4ae; --line: #3a3a40; --page: #161618; } }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem;
  color: var(--text); background: var(--page); }
h1 { font-size: 1.3rem; } code { font-size: 0.9em; }
p, td small { color: var(--soft); } p strong { color: var(--text); }
table { border-collapse: collapse; width: 100%; table-layout: fixed; }
th { text-align: left; font-weight: 600; } th, td { border-bottom: 1px solid var(--line); padding: 0.3rem 0.5rem;
  vertical-align: top; overflow-wrap: anywhere; }
.at { width: 5.5rem; text-align: right; font-variant-numeric: tabular-nums; } .time { width: 40%; }
.track { position: relative; height: 0.9rem; margin-top: 0.25rem; background: var(--line); border-radius: 3px; }
.bar { position: absolute; height: 100%; min-width: 3px; border-radius: 3px; background: #6b7280; }
.model { background: #4f6bed; } .tool { background: #1f9d6b; } .approval { background: #c27803; }
.read { background: #9061c2; } .send { background: #3b8ea5; } .charge { background: #b4536b; }
td small { display: block; }
"""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(trace: Trace) -> str:
    title = f"Task {trace.turn[:12]}"
    place = f"{trace.conversation}, {trace.name or trace.person}, {trace.started_at:%Y-%m-%d %H:%M:%S} UTC"
    rows = "\n".join(_rows(trace))
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">
<title>{escape(title)}</title>
<style>
{_STYLE}</style>
</head>
<body>
<h1>Task <code>{escape(trace.turn)}</code></h1>
<p><strong>{escape(summary(trace))}</strong><br>{_text(place)}</p>
<table>
<thead><tr><th class="at" scope="col">second</th><th class="time" scope="col">time</th>
<th scope="col">what</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</body>
</html>
"""


def _rows(trace: Trace) -> Iterator[str]:
    for span in trace.spans:
        yield _row(trace, span.kind, span.at, span.seconds, label_of(span), _detail(span))
    for task in trace.tasks:
        label = f"background {task.handle}: {task.title}, {task.state}"
        yield _row(trace, "task", task.at, task.seconds, label, [f"turn {turn}" for turn in task.turns])


def _row(trace: Trace, kind: str, at: float | None, seconds: float | None, label: str, detail: list[str]) -> str:
    shown = "?" if at is None else f"{at:.3f}"
    more = "".join(f"<small>{_text(line)}</small>" for line in detail)
    return (
        f'<tr><td class="at">{shown}</td><td class="time">{_bar(trace.end, kind, at, seconds)}</td>'
        f"<td>{_text(label)}{more}</td></tr>"
    )


def _bar(end: float, kind: str, at: float | None, seconds: float | None) -> str:
    if at is None or end <= 0:
        return ""
    left, width = 100 * at / end, 100 * (seconds or 0.0) / end
    style = f"left:{min(left, 99.5):.2f}%;width:{min(width, 100 - left):.2f}%"
    return f'<div class="track"><div class="bar {kind}" style="{style}"></div></div>'


def _detail(span: Span) -> list[str]:
    """What people and tools wrote."""
    match span:
        case Read(messages=messages):
            return [f"{message.sender or message.source}: {message.text}" for message in messages]
        case ToolCall(title=title, result=result, foreign=foreign):
            return [title, *([f"→ {result}"] if result else []), *([f"from outside: {foreign}"] if foreign else [])]
        case _:
            return []


def _text(text: str) -> str:
    return escape(plain(text, 1000))

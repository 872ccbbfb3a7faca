"""What the demo model answers and calls: a pure function of the conversation. Many people's first impression."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from agent.log import Call
from agent.media import Attachment
from agent.model import Request
from agent.models.demo_image import described, shapes_in
from agent.models.demo_state import (
    Pages,
    Reply,
    State,
    calls,
    enumerated,
    first_line,
    given_name,
    page_of,
    quote,
    read_state,
)
from agent.transcript import Result

INTRODUCTION = (
    "I am Interject's built-in demo model: a script that works offline and needs no key. "
    "To use a real model, run `interject init`, or set `model` and its API key in `interject.toml`.\n\n"
)
ABILITIES = (
    "Try one of these:\n\n"
    "- *draw a chart*, or *pie chart of 3, 5, 8*\n"
    "- *draw a picture of a boat at night*\n"
    "- *do a long task*, then write to me while I work on it\n"
    "- *count the stock*, by an example MCP server, and write to me meanwhile\n"
    "- *write a file about tea*\n"
    "- *ask me*, then choose an answer\n"
    "- *my name is Ann*, and later: *what is my name?*\n"
    "- send me a picture or a file"
)
HINT = "Try *draw a chart* or *do a long task*."
CONFIGURATION = (
    "Put this into `interject.toml` and restart:\n\n"
    '```toml\n[agent]\nmodel = "openai:gpt-5"   # or "anthropic:…"\n\n'
    '[models.openai]\napi_key = "${OPENAI_API_KEY}"\n```\n\n'
    "Any OpenAI-compatible server works too: set its `base_url`. `interject init` can set up all of this for you."
)
ALL_READ = (
    "A real model would now tell you what they say. The pages were simulated; the tool calls, the steps and your "
    "chance to interrupt were real. Ask for another *long task* and interrupt it halfway."
)

BACKGROUND_ENDED = "The background task has finished, and I have received its result."

REAL_PICTURES = (
    "No image model was asked: the demo draws simple shapes for the words that it knows, on this machine. "
    "For real pictures set `model` in `[tools.generate_image]`, for example to `openai:gpt-image-1`."
)
NO_STOCK = (
    "The tools of the example MCP server are not here. The file `examples/mcp/stock.py` of the repository says how to "
    "add it to the settings."
)

COUNT = "stock_count_shelf"
SHELVES = ("tea", "coffee", "cups")
FILE = "demo.md"
WORD_COUNT = "word_count"
MAX_PROMPT = 4_000
STOPPED = "I stop here and do nothing more."
STOP_WORDS = r"(?i)\b(stop|enough|cancel|abort|quit)\b"
STOCK_WORDS = r"(?i)\b(stock|shelf|shelves|inventory|mcp)\b"

CHART_KINDS = ("pie", "scatter", "line", "bar")
DEFAULT_PAGES = 5
MAX_PAGES = 9
SECONDS_PER_PAGE = 3
NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def reply(request: Request) -> tuple[str, tuple[Call, ...]]:
    """The text of the demo's next answer, and its calls."""
    state = read_state(request)
    answer = _after_calls(state) if state.results else _to_messages(state)
    introduction = INTRODUCTION if state.last_answer is None else ""
    return introduction + answer.text, answer.calls


# Answering a message


def _to_messages(state: State) -> Reply:
    if not state.new_messages and state.background_ended:
        return Reply(BACKGROUND_ENDED)
    if not state.new_messages:
        return Reply("I was interrupted, so I stopped. What should I do next?" if state.interrupted else ABILITIES)
    reply = _to_message(state)
    if not state.interrupted:
        return reply
    return replace(reply, text=f"You interrupted my answer: {quote(state.message)}.\n\n{reply.text}")


def _to_message(state: State) -> Reply:
    message = state.message
    if state.attachments:
        return Reply(_about_attachments(state.attachments))
    if re.search(r"(?i)\bask (me|us)\b", message):
        return _question(state)
    if _wants_picture(state):
        return _picture(state)
    if _wants_chart(message):
        return _chart(state)
    if re.search(STOCK_WORDS, message):
        return _count(state)
    if _wants_file(message):
        return _write(state)
    if state.pages.remaining and re.search(r"(?i)\b(go on|continue|carry on|resume)\b", message):
        return _continue_task(state, "All right.")
    if _wants_task(message):
        return _start_task(state)
    return Reply(_small_talk(state) or _fallback(message))


def _wants_picture(state: State) -> bool:
    """Whether it is a picture, not a chart. Without the tool for pictures, a chart is drawn for both."""
    message = state.message
    if "generate_image" not in state.tools or re.search(r"(?i)\b(charts?|graphs?|plots?|diagrams?|pies?)\b", message):
        return False
    return bool(re.search(r"(?i)\b(draw|paint|pictures?|images?|drawings?|photos?)\b", message))


def _wants_file(message: str) -> bool:
    return bool(re.search(r"(?i)\b(write|make|create|save)\b.*\b(files?|notes?|documents?)\b", message))


def _wants_chart(message: str) -> bool:
    return bool(re.search(r"(?i)\b(charts?|graphs?|plots?|diagrams?|draw|pictures?|pies?)\b", message))


def _wants_task(message: str) -> bool:
    return bool(re.search(r"(?i)\b(slow(ly)?|long|tasks?|research|pages?)\b", message))


def _small_talk(state: State) -> str:
    message, name = state.message, f", {state.name}" if state.name else ""
    if re.search(r"(?i)\bwhat('s| is) my name\b|\bwho am i\b", message):
        return f"Your name is {state.name}: you told me." if name else "You have not told me yet. Say *my name is …*."
    if given_name(message):
        return f"Nice to meet you{name}. I will remember your name in this conversation."
    if re.search(r"(?i)\b(real model|configure|config|set ?up|api key|install)\b", message):
        return CONFIGURATION
    if re.search(r"(?i)\bwhat can you\b|\bwhat do you do\b|\bhelp\b|\bwho are you\b|\bwhat are you\b", message):
        return f"I show what it is like to talk to an agent that you can interrupt. {ABILITIES}"
    if re.search(r"(?i)\bthanks?\b|\bthank you\b", message):
        return f"You are welcome{name}."
    if re.search(r"(?i)\bhow are you\b", message):
        return f"Fine, for a script{name}. You can interrupt me at any time."
    if re.search(r"(?i)\b(bye|goodbye|see you)\b", message):
        return f"Goodbye{name}!"
    if re.search(r"(?i)^\W*(hi|hello|hey|hallo|good (morning|day|evening))\b", message):
        return f"Hello{name}! {ABILITIES}"
    return ""


def _fallback(message: str) -> str:
    if not message:
        return f"That message was empty. {HINT}"
    count = len(message.split())
    words = "one word" if count == 1 else f"{count} words"
    return f"I read {words}: {quote(message)}. A script cannot answer that; a real model could. {HINT}"


def _about_attachments(attachments: Sequence[Attachment]) -> str:
    files = enumerated([_description(attachment) for attachment in attachments])
    pronoun = "it" if len(attachments) == 1 else "they"
    return f"I received {files}. A real model would look inside; I can only confirm that {pronoun} arrived complete."


def _description(attachment: Attachment) -> str:
    size = f"{attachment.size:,} bytes"
    if not attachment.is_picture:
        return f"the file *{attachment.name}* ({size})"
    sides = f"{attachment.width}×{attachment.height}, " if attachment.width and attachment.height else ""  # noqa: RUF001 - the sign for sizes
    return f"the picture *{attachment.name}* ({sides}{size})"


# The question


def _question(state: State) -> Reply:
    if "ask_user" not in state.tools:
        return Reply("I would ask you, but the tool `ask_user` is not enabled here.")
    question = {"question": "Which chart should I draw?", "options": list(CHART_KINDS)}
    return Reply("", calls(state, "ask_user", [json.dumps(question)]))


def _after_question(state: State) -> Reply:
    return _chart(state, f"You chose {quote(state.message)}. ")


# The chart


def _chart(state: State, prefix: str = "") -> Reply:
    if "draw_chart" not in state.tools:
        return Reply(f"{prefix}I would draw it, but the tool `draw_chart` is not enabled here.".lstrip())
    arguments = _chart_arguments(state.message)
    kind = arguments["kind"]
    return Reply(f"{prefix}Drawing a {kind} chart.", calls(state, "draw_chart", [json.dumps(arguments)]))


def _chart_arguments(message: str) -> dict[str, object]:
    kind = _kind(message)
    labels, values = _data(message)
    title = "Your numbers"
    if len(values) < 2:
        labels, values = ["Mon", "Tue", "Wed", "Thu", "Fri"], [3.0, 5.0, 2.0, 8.0, 6.0]
        title = "Cups of coffee this week"
    series: dict[str, object] = {"name": "values" if title == "Your numbers" else "cups", "values": values}
    if kind == "scatter":
        return {"kind": kind, "title": title, "series": [{**series, "x": list(range(1, len(values) + 1))}]}
    return {"kind": kind, "title": title, "series": [series], "labels": labels}


def _kind(message: str) -> str:
    for kind in CHART_KINDS:
        if re.search(rf"(?i)\b{kind}s?\b", message):
            return kind
    return "line" if re.search(r"(?i)\b(curve|trend|over time)\b", message) else "bar"


def _data(message: str) -> tuple[list[str], list[float]]:
    """The numbers of a message, each with a label: its own ("apples 3, pears 5") or its position."""
    data = re.sub(r"(?i)^.*?\b(?:charts?|graphs?|plots?|diagrams?|pies?|draw)\b", "", message, count=1, flags=re.DOTALL)
    number = r"-?\d+(?:\.\d+)?"
    values = [float(found) for found in re.findall(number, data)]
    pairs = re.findall(rf"([^\W\d_]+)\s*[:=]?\s*({number})", data)
    labels = [label for label, _ in pairs if label.lower() not in {"of", "and", "with", "from", "to", "for", "the"}]
    return (labels if len(labels) == len(values) else [str(place) for place in range(1, len(values) + 1)]), values


def _about_chart(result: Result) -> str:
    if result.outcome != "done":
        return f"The chart was not drawn. {first_line(result.text)}"
    chart = json.loads(result.call.arguments)
    values = chart["series"][0]["values"]
    labels = chart.get("labels") or [str(place) for place in chart["series"][0]["x"]]
    high, low = values.index(max(values)), values.index(min(values))
    return (
        f"Here is the chart: *{chart['title']}*. The highest is {labels[high]} with {values[high]:g}, "
        f"the lowest is {labels[low]} with {values[low]:g}. A real tool drew it, in a separate process."
    )


# The picture


def _picture(state: State, prefix: str = "") -> Reply:
    prompt = state.message
    caption = f"Demo drawing: {described(shapes_in(prompt))}. No image model drew it."
    arguments = {"prompt": prompt[:MAX_PROMPT], "alt": caption}
    return Reply(f"{prefix}Drawing a picture.", calls(state, "generate_image", [json.dumps(arguments)]))


def _about_picture(result: Result) -> str:
    return REAL_PICTURES if result.outcome == "done" else f"The picture was not drawn. {first_line(result.text)}"


# The file


def _write(state: State) -> Reply:
    if not {"write_file", "send_file"} <= state.tools:
        return Reply("I would write it, but the tools `write_file` and `send_file` are not enabled here.")
    content = f"# Written by Interject's demo\n\nYou asked: {quote(state.message)}\n"
    (write,) = calls(state, "write_file", [json.dumps({"path": FILE, "content": content})])
    return Reply(f"Writing `{FILE}`.", (write,))


def _after_writing(state: State) -> Reply:
    (written,) = (result for result in state.results if result.call.name == "write_file")
    if written.outcome != "done" or "send_file" not in state.tools:
        return Reply(f"The file was not written. {first_line(written.text)}")
    arguments = [json.dumps({"path": FILE})]
    counting = calls(state, WORD_COUNT, arguments) if WORD_COUNT in state.tools else ()
    sending = calls(state, "send_file", arguments, after=len(counting))
    return Reply("The file is in the workspace; here it is.", (*counting, *sending))


def _about_words(result: Result) -> str:
    if result.outcome != "done":
        return f"Its words were not counted. {first_line(result.text)}"
    return f"`{WORD_COUNT}`, the example of a tool of your own in `examples/tools`, says: {first_line(result.text)}."


def _about_file(result: Result) -> str:
    if result.outcome != "done":
        return f"The file was not sent. {first_line(result.text)}"
    return "A real model would write into it what you asked for."


# The stock, which an example MCP server counts


def _count(state: State, shelves: Sequence[str] = SHELVES) -> Reply:
    if COUNT not in state.tools:
        return Reply(NO_STOCK)
    each = "a few seconds each" if len(shelves) > 1 else "for a few seconds"
    return Reply(
        f"I will count {enumerated(shelves)}, {each}. Write to me meanwhile: the count that runs is "
        "cancelled at the MCP server, and the others are skipped. For example: *only coffee*, or *stop and draw a "
        "chart*.",
        calls(state, COUNT, [json.dumps({"shelf": shelf}) for shelf in shelves]),
    )


def _about_stock(result: Result) -> str:
    shelf = json.loads(result.call.arguments)["shelf"]
    return f"{first_line(result.text)}." if result.outcome == "done" else f"{shelf}: {result.outcome}."


# The long task


def _start_task(state: State) -> Reply:
    total = min(_requested_pages(state.message) or DEFAULT_PAGES, MAX_PAGES)
    if "shell" not in state.tools:
        return Reply("I would do it step by step, but the tool `shell` is not enabled here.")
    return Reply(
        f"I will read {_pages_text(total)}, about {SECONDS_PER_PAGE} seconds each. Write to me meanwhile and I will "
        "react at once. For example: *only 2 pages*, or *stop and draw a chart*.",
        _read(state, range(1, total + 1), total),
    )


def _read(state: State, pages: Sequence[int], total: int) -> tuple[Call, ...]:
    commands = [f'sleep {SECONDS_PER_PAGE}; echo "page {page} of {total} read"' for page in pages]
    return calls(state, "shell", [json.dumps({"command": command}) for command in commands])


def _requested_pages(message: str) -> int | None:
    found = re.search(rf"(?i)\b(\d{{1,4}}|{'|'.join(NUMBER_WORDS)})\s+(?:more\s+)?pages?\b", message)
    if not found:
        return None
    word = found[1].lower()
    return NUMBER_WORDS.index(word) if word in NUMBER_WORDS else int(word)


def _after_calls(state: State) -> Reply:
    """Reports the outcomes of the calls, then follows the messages sent meanwhile, or continues."""
    if any(result.call.name == "ask_user" for result in state.results) and state.new_messages:
        return _after_question(state)
    told = [ABOUT[result.call.name](result) for result in state.results if result.call.name in ABOUT]
    reading = any(page_of(result.call) for result in state.results)
    report = " ".join([*told, *([_report(state.pages)] if reading else [])])
    if state.new_messages:
        return _after_interjection(
            state, f"You wrote {quote(state.message)}, so I paused. {report}\n\n", reading=reading
        )
    if any(result.call.name == "write_file" for result in state.results):
        return _after_writing(state)
    if not reading:
        return Reply(report)
    return _after_pages(state, report)


ABOUT: Mapping[str, Callable[[Result], str]] = {
    "draw_chart": _about_chart,
    "generate_image": _about_picture,
    "send_file": _about_file,
    WORD_COUNT: _about_words,
    COUNT: _about_stock,
}
"""What is said of the result of a call, by its tool."""


def _report(pages: Pages) -> str:
    """The outcome of each page, in plain words."""
    sentences = [
        (pages.with_outcome("done"), "read"),
        (pages.with_outcome("cancelled"), "cancelled while running"),
        (pages.with_outcome("skipped"), "skipped before starting"),
        (pages.with_outcome("failed", "denied"), "not read, because the tool call failed"),
        (pages.with_outcome("unknown"), "unknown because of a restart"),
    ]
    report = "; ".join(f"{_page_numbers(numbers)}: {what}" for numbers, what in sentences if numbers)
    return f"{report[:1].upper()}{report[1:]}."


def _after_interjection(state: State, prefix: str, *, reading: bool) -> Reply:
    message = state.message
    if not reading:
        reply = _correction(state) or _to_message(state)
        if not reply.calls and re.search(STOP_WORDS, message):
            reply = Reply(STOPPED)
        return replace(reply, text=prefix + reply.text)
    if state.attachments:
        return _continue_task(state, prefix + _about_attachments(state.attachments))
    if _wants_picture(state):
        return _picture(state, prefix)
    if _wants_chart(message):
        return _chart(state, prefix)
    requested = _requested_pages(message)
    if requested is not None:
        return _shorten_task(state, prefix, requested)
    if re.search(STOP_WORDS, message):
        return Reply(prefix + STOPPED)
    return _continue_task(state, prefix + (_small_talk(state) or "I will keep it in mind."))


def _correction(state: State) -> Reply | None:
    """What was interrupted, as the message wants it now. None if the message is about something else."""
    if re.search(STOP_WORDS, state.message):
        return None
    interrupted = {result.call.name for result in state.results if result.outcome != "done"}
    if "generate_image" in interrupted and shapes_in(state.message):
        return _picture(state)
    shelves = [shelf for shelf in SHELVES if re.search(rf"(?i)\b{shelf}\b", state.message)]
    return _count(state, shelves) if COUNT in interrupted and shelves else None


def _shorten_task(state: State, prefix: str, requested: int) -> Reply:
    remaining = [page for page in state.pages.remaining if page <= requested]
    if not remaining or "shell" not in state.tools:
        return Reply(f"{prefix}I have read {_pages_text(len(state.pages.with_outcome('done')))}, so I am done.")
    return Reply(f"{prefix}I will read only {_page_numbers(remaining)}.", _read(state, remaining, state.pages.total))


def _continue_task(state: State, text: str) -> Reply:
    remaining = state.pages.remaining
    if not remaining or "shell" not in state.tools:
        return Reply(text)
    return Reply(f"{text} I continue with {_page_numbers(remaining)}.", _read(state, remaining, state.pages.total))


def _after_pages(state: State, report: str) -> Reply:
    remaining = state.pages.remaining
    if not remaining and state.pages.with_outcome("done"):
        return Reply(f"{report} {ALL_READ}")
    if not any(result.outcome in ("done", "unknown") for result in state.results):
        # Nothing of the last attempt succeeded: another one would repeat it endlessly.
        return Reply(f"{report} I will not try again.")
    return _continue_task(state, report)


# Words


def _page_numbers(pages: Sequence[int]) -> str:
    return f"page{'' if len(pages) == 1 else 's'} {enumerated([str(page) for page in pages])}"


def _pages_text(pages: int) -> str:
    return f"{NUMBER_WORDS[pages] if pages < len(NUMBER_WORDS) else pages} page{'' if pages == 1 else 's'}"

"""What the demo says and does: one pure function of the conversation. Its words are a person's first minute here."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.log import Call, MessagesRead, ModelAnswered, Outcome, UserMessage
from agent.media import Attachment
from agent.model import Request
from agent.transcript import Exchange, Result, Results, SystemNote

INTRODUCTION = (
    "I am Interject's built-in demo: offline, no key needed, and only a script. "
    "For a real model run `interject init`, or put `model` and its key into `interject.toml`.\n\n"
)
ABILITIES = (
    "Try one of these:\n\n"
    "- *draw a chart*, or *pie chart of 3, 5, 8*\n"
    "- *do a long task*, and then write to me in the middle of it\n"
    "- *ask me*, and choose an answer\n"
    "- *my name is Ann*, and later *what is my name?*\n"
    "- send me a picture or a file"
)
HINT = "Try *draw a chart* or *do a long task*."
CONFIGURATION = (
    "Put this into `interject.toml` and start again:\n\n"
    '```toml\n[agent]\nmodel = "openai:gpt-5"   # or "anthropic:…"\n\n'
    '[models.openai]\napi_key = "${OPENAI_API_KEY}"\n```\n\n'
    "Any OpenAI-compatible server works too: give its `base_url`. `interject init` asks for all of this."
)
ALL_READ = (
    "A real model would now tell you what they say. The pages were pretended; the tool, the steps and your chance to "
    "interrupt were real. Ask for another *long task* and cut in halfway."
)

BACKGROUND = "What went on in the background has come to its end, and its result has reached me."

KINDS = ("pie", "scatter", "line", "bar")
PAGES = 5
MOST_PAGES = 9
SECONDS_PER_PAGE = 3
QUOTED = 80
NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True, slots=True)
class Reply:
    text: str
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True)
class Scene:
    """Where the conversation stands. `fresh` is what people said since the last answer, `results` are of its calls.

    `cut_in`: that answer was interrupted. `background`: work that went on beside the conversation has ended.
    """

    fresh: tuple[UserMessage, ...]
    background: bool
    last: ModelAnswered | None
    cut_in: bool
    results: tuple[Result, ...]
    pages: Pages
    name: str
    tools: frozenset[str]
    calls_made: int

    @property
    def wish(self) -> str:
        return "\n".join(said.text for said in self.fresh).strip()

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        return tuple(attachment for said in self.fresh for attachment in said.attachments)


@dataclass(frozen=True, slots=True)
class Pages:
    """How far the long task has come: what became of each page, by its number."""

    total: int = 0
    outcomes: tuple[tuple[int, Outcome], ...] = ()

    def that_were(self, *outcomes: Outcome) -> list[int]:
        return sorted(page for page, outcome in self.outcomes if outcome in outcomes)

    @property
    def left(self) -> list[int]:
        """What can still be read. A page that may have been read, or could not be, is not tried again."""
        return self.that_were("skipped", "cancelled")


def reply(request: Request) -> tuple[str, tuple[Call, ...]]:
    """What the demo says next, and the calls it asks for."""
    scene = _scene(request)
    said = _after_calls(scene) if scene.results else _to_message(scene)
    introduction = INTRODUCTION if scene.last is None else ""
    return introduction + said.text, said.calls


# Reading the conversation


def _scene(request: Request) -> Scene:
    transcript = request.transcript
    if request.text_only and isinstance(transcript[-1], SystemNote):
        # What follows the conversation says only how to answer.
        transcript = transcript[:-1]
    last = next((exchange for exchange in reversed(transcript) if isinstance(exchange, ModelAnswered)), None)
    since = _since_last_answer(transcript)
    heard = [said for exchange in since if isinstance(exchange, MessagesRead) for said in exchange.messages]
    before = transcript[-len(since) - 1] if len(since) < len(transcript) else None
    return Scene(
        fresh=tuple(said for said in heard if said.source == "person"),
        background=any(said.source == "work" for said in heard),
        last=last,
        cut_in=isinstance(before, ModelAnswered) and before.interrupted,
        results=tuple(result for exchange in since if isinstance(exchange, Results) for result in exchange.results),
        pages=_pages(transcript),
        name=_name(transcript),
        tools=frozenset() if request.text_only else frozenset(tool.name for tool in request.tools),
        calls_made=sum(len(exchange.calls) for exchange in transcript if isinstance(exchange, ModelAnswered)),
    )


def _since_last_answer(transcript: Sequence[Exchange]) -> list[Exchange]:
    """What came after the last answer; of a turn that was ended, as by a stop, nothing is to be gone on with."""
    since: list[Exchange] = []
    for exchange in reversed(transcript):
        if isinstance(exchange, ModelAnswered | SystemNote):
            break
        since.append(exchange)
    return since[::-1]


def _pages(transcript: Sequence[Exchange]) -> Pages:
    total = 0
    outcomes: dict[int, Outcome] = {}
    for exchange in transcript:
        for result in exchange.results if isinstance(exchange, Results) else ():
            page = _page(result.call)
            if page is None:
                continue
            number, total = page
            if number == 1:
                outcomes.clear()
            outcomes[number] = result.outcome
    return Pages(total, tuple(outcomes.items()))


def _page(call: Call) -> tuple[int, int] | None:
    found = re.search(r"page (\d+) of (\d+) read", call.arguments) if call.name == "shell" else None
    return (int(found[1]), int(found[2])) if found else None


def _name(transcript: Sequence[Exchange]) -> str:
    names = [
        name
        for exchange in transcript
        if isinstance(exchange, MessagesRead)
        for said in exchange.messages
        if (name := _named(said.text))
    ]
    return names[-1] if names else ""


def _named(text: str) -> str:
    found = re.search(r"(?i:\bmy name is|\bmy name's|\bcall me)\s+([\w'-]+)", text) or re.search(
        r"(?i:\bi am|\bi'm)\s+([A-Z][\w'-]*)", text
    )
    return found[1][:1].upper() + found[1][1:] if found else ""


# Answering a message


def _to_message(scene: Scene) -> Reply:
    if not scene.fresh and scene.background:
        return Reply(BACKGROUND)
    if not scene.fresh:
        return Reply("I was interrupted, and leave it at that. What shall I do next?" if scene.cut_in else ABILITIES)
    said = _answer_to(scene)
    return (
        replace(said, text=f"You cut in while I was speaking: {_quote(scene.wish)}. Gladly.\n\n{said.text}")
        if scene.cut_in
        else said
    )


def _answer_to(scene: Scene) -> Reply:
    wish = scene.wish
    if scene.attachments:
        return Reply(_seen(scene.attachments))
    if re.search(r"(?i)\bask (me|us)\b", wish):
        return _question(scene)
    if _wants_chart(wish):
        return _chart(scene)
    if scene.pages.left and re.search(r"(?i)\b(go on|continue|carry on|resume)\b", wish):
        return _then_go_on(scene, "On with it.")
    if _wants_task(wish):
        return _task(scene)
    return Reply(_small_talk(scene) or _fallback(wish))


def _wants_chart(wish: str) -> bool:
    return bool(re.search(r"(?i)\b(charts?|graphs?|plots?|diagrams?|draw|pictures?|pies?)\b", wish))


def _wants_task(wish: str) -> bool:
    return bool(re.search(r"(?i)\b(slow(ly)?|long|tasks?|research|pages?)\b", wish))


def _small_talk(scene: Scene) -> str:
    wish, name = scene.wish, f", {scene.name}" if scene.name else ""
    if re.search(r"(?i)\bwhat('s| is) my name\b|\bwho am i\b", wish):
        return f"You are {scene.name}: you told me." if name else "You have not told me yet. Say *my name is …*."
    if _named(wish):
        return f"Nice to meet you{name}. I will remember it in this conversation."
    if re.search(r"(?i)\b(real model|configure|config|set ?up|api key|install)\b", wish):
        return CONFIGURATION
    if re.search(r"(?i)\bwhat can you\b|\bwhat do you do\b|\bhelp\b|\bwho are you\b|\bwhat are you\b", wish):
        return f"I show what a conversation with an agent is like when you can interrupt it. {ABILITIES}"
    if re.search(r"(?i)\bthanks?\b|\bthank you\b", wish):
        return f"You are welcome{name}."
    if re.search(r"(?i)\bhow are you\b", wish):
        return f"As well as a script can be{name}. And ready to be interrupted."
    if re.search(r"(?i)\b(bye|goodbye|see you)\b", wish):
        return f"Goodbye{name}!"
    if re.search(r"(?i)^\W*(hi|hello|hey|hallo|good (morning|day|evening))\b", wish):
        return f"Hello{name}! {ABILITIES}"
    return ""


def _fallback(wish: str) -> str:
    if not wish:
        return f"That message was empty. {HINT}"
    count = len(wish.split())
    words = "one word" if count == 1 else f"{count} words"
    return f"I heard {words}: {_quote(wish)}. A script cannot think about that; a real model would. {HINT}"


def _seen(attachments: Sequence[Attachment]) -> str:
    files = _listed([_described(attachment) for attachment in attachments])
    return f"I received {files}. A real model would look inside; I can only tell you that it arrived whole."


def _described(attachment: Attachment) -> str:
    size = f"{attachment.size:,} bytes"
    if not attachment.is_picture:
        return f"the file *{attachment.name}* ({size})"
    sides = f"{attachment.width}×{attachment.height}, " if attachment.width and attachment.height else ""  # noqa: RUF001 - the sign for sizes
    return f"the picture *{attachment.name}* ({sides}{size})"


# The question


def _question(scene: Scene) -> Reply:
    if "ask_user" not in scene.tools:
        return Reply("I would ask you, but the tool `ask_user` is not enabled here.")
    question = {"question": "Which chart shall I draw for you?", "options": list(KINDS)}
    return Reply("", _calls(scene, "ask_user", [json.dumps(question)]))


def _answered(scene: Scene) -> Reply:
    return _chart(scene, f"You chose {_quote(scene.wish)}. ")


# The chart


def _chart(scene: Scene, lead: str = "") -> Reply:
    if "draw_chart" not in scene.tools:
        return Reply(f"{lead}I would draw it, but the tool `draw_chart` is not enabled here.".lstrip())
    arguments = _chart_arguments(scene.wish)
    kind = arguments["kind"]
    return Reply(f"{lead}Here comes a {kind} chart.", _calls(scene, "draw_chart", [json.dumps(arguments)]))


def _chart_arguments(wish: str) -> dict[str, object]:
    kind = _kind(wish)
    labels, values = _data(wish)
    title = "Your numbers"
    if len(values) < 2:
        labels, values = ["Mon", "Tue", "Wed", "Thu", "Fri"], [3.0, 5.0, 2.0, 8.0, 6.0]
        title = "Cups of coffee this week"
    series: dict[str, object] = {"name": "values" if title == "Your numbers" else "cups", "values": values}
    if kind == "scatter":
        return {"kind": kind, "title": title, "series": [{**series, "x": list(range(1, len(values) + 1))}]}
    return {"kind": kind, "title": title, "series": [series], "labels": labels}


def _kind(wish: str) -> str:
    for kind in KINDS:
        if re.search(rf"(?i)\b{kind}s?\b", wish):
            return kind
    return "line" if re.search(r"(?i)\b(curve|trend|over time)\b", wish) else "bar"


def _data(wish: str) -> tuple[list[str], list[float]]:
    """The numbers of a message, with a label each: its own ("apples 3, pears 5") or its place."""
    data = re.sub(r"(?i)^.*?\b(?:charts?|graphs?|plots?|diagrams?|pies?|draw)\b", "", wish, count=1, flags=re.DOTALL)
    number = r"-?\d+(?:\.\d+)?"
    values = [float(found) for found in re.findall(number, data)]
    pairs = re.findall(rf"([^\W\d_]+)\s*[:=]?\s*({number})", data)
    labels = [label for label, _ in pairs if label.lower() not in {"of", "and", "with", "from", "to", "for", "the"}]
    return (labels if len(labels) == len(values) else [str(place) for place in range(1, len(values) + 1)]), values


def _about_chart(result: Result) -> str:
    if result.outcome != "done":
        return f"The chart was not drawn. {_first_line(result.text)}"
    chart = json.loads(result.call.arguments)
    values = chart["series"][0]["values"]
    labels = chart.get("labels") or [str(place) for place in chart["series"][0]["x"]]
    high, low = values.index(max(values)), values.index(min(values))
    return (
        f"There it is: *{chart['title']}*. The highest is {labels[high]} with {values[high]:g}, "
        f"the lowest {labels[low]} with {values[low]:g}. A real tool drew it, in a process of its own."
    )


# The long task


def _task(scene: Scene) -> Reply:
    total = min(_page_count(scene.wish) or PAGES, MOST_PAGES)
    if "shell" not in scene.tools:
        return Reply("I would do it step by step, but the tool `shell` is not enabled here.")
    return Reply(
        f"I will read {_count(total)}, about {SECONDS_PER_PAGE} seconds each. Write to me meanwhile, I follow at once: "
        "*only 2 pages*, say, or *stop and draw a chart*.",
        _read(scene, range(1, total + 1), total),
    )


def _read(scene: Scene, pages: Sequence[int], total: int) -> tuple[Call, ...]:
    commands = [f'sleep {SECONDS_PER_PAGE}; echo "page {page} of {total} read"' for page in pages]
    return _calls(scene, "shell", [json.dumps({"command": command}) for command in commands])


def _page_count(wish: str) -> int | None:
    found = re.search(rf"(?i)\b(\d{{1,4}}|{'|'.join(NUMBER_WORDS)})\s+(?:more\s+)?pages?\b", wish)
    if not found:
        return None
    word = found[1].lower()
    return NUMBER_WORDS.index(word) if word in NUMBER_WORDS else int(word)


def _after_calls(scene: Scene) -> Reply:
    """Tells truthfully what became of the calls, then follows what was said meanwhile, or goes on."""
    if any(result.call.name == "ask_user" for result in scene.results) and scene.fresh:
        return _answered(scene)
    charts = " ".join(_about_chart(result) for result in scene.results if result.call.name == "draw_chart")
    reading = any(_page(result.call) for result in scene.results)
    account = " ".join(filter(None, [charts, _account(scene.pages) if reading else ""]))
    if scene.fresh:
        return _steered(scene, f"You said {_quote(scene.wish)}, so I stopped to listen. {account}\n\n", reading=reading)
    if not reading:
        return Reply(account)
    return _go_on(scene, account)


def _account(pages: Pages) -> str:
    """What became of each page, in plain words."""
    sentences = [
        (pages.that_were("done"), "read"),
        (pages.that_were("cancelled"), "cancelled in the middle"),
        (pages.that_were("skipped"), "skipped before they began"),
        (pages.that_were("failed", "denied"), "not read, because the tool refused"),
        (pages.that_were("unknown"), "unsure, as a restart came in between"),
    ]
    told = "; ".join(f"{_these(numbers)}: {what}" for numbers, what in sentences if numbers)
    return f"{told[:1].upper()}{told[1:]}."


def _steered(scene: Scene, lead: str, *, reading: bool) -> Reply:
    if not reading:
        said = _answer_to(scene)
        return replace(said, text=lead + said.text)
    wish = scene.wish
    if scene.attachments:
        return _then_go_on(scene, lead + _seen(scene.attachments))
    if _wants_chart(wish):
        return _chart(scene, lead)
    wanted = _page_count(wish)
    if wanted is not None:
        return _only(scene, lead, wanted)
    if re.search(r"(?i)\b(stop|enough|cancel|abort|quit)\b", wish):
        return Reply(f"{lead}I stop here. Nothing more is done.")
    return _then_go_on(scene, lead + (_small_talk(scene) or "I will bear it in mind."))


def _only(scene: Scene, lead: str, wanted: int) -> Reply:
    left = [page for page in scene.pages.left if page <= wanted]
    if not left or "shell" not in scene.tools:
        return Reply(f"{lead}{_count(len(scene.pages.that_were('done')))} it is, then: I am finished.")
    return Reply(f"{lead}Then I read only {_these(left)}.", _read(scene, left, scene.pages.total))


def _then_go_on(scene: Scene, text: str) -> Reply:
    left = scene.pages.left
    if not left or "shell" not in scene.tools:
        return Reply(text)
    return Reply(f"{text} I go on with {_these(left)}.", _read(scene, left, scene.pages.total))


def _go_on(scene: Scene, account: str) -> Reply:
    left = scene.pages.left
    if not left and scene.pages.that_were("done"):
        return Reply(f"{account} {ALL_READ}")
    if not any(result.outcome in ("done", "unknown") for result in scene.results):
        # Nothing of the last attempt came to anything: another one would go round in circles.
        return Reply(f"{account} I leave it there.")
    return _then_go_on(scene, account)


# Words


def _calls(scene: Scene, name: str, arguments: Sequence[str]) -> tuple[Call, ...]:
    return tuple(
        Call(f"demo_{scene.calls_made + number}", name, argument) for number, argument in enumerate(arguments, 1)
    )


def _quote(text: str) -> str:
    line = " ".join(text.split())
    return f"“{line}”" if len(line) <= QUOTED else f"“{line[: QUOTED - 1].rstrip()}…”"


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def _these(pages: Sequence[int]) -> str:
    return f"page{'' if len(pages) == 1 else 's'} {_listed([str(page) for page in pages])}"


def _count(pages: int) -> str:
    return f"{NUMBER_WORDS[pages] if pages < len(NUMBER_WORDS) else pages} page{'' if pages == 1 else 's'}"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"

"""Separates the text of an answer from the reasoning and the calls that some models write into it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import Literal, assert_never

from agent.events import Delta, ReasoningDelta, TextDelta, Withdrawn
from agent.gate import text
from agent.log import Call, Part, Text, Thinking
from agent.models.protocols.lenient_json import arguments_text
from agent.models.protocols.raw_calls import RawCall, raw_calls, unreadable_call

MAX_HEADER = 300
"""Characters of the header of a message in the Harmony format."""

MAX_BLANKS = 64
"""Blanks after the beginning of a call, before the call itself."""

MAX_RUN = 64
"""Backticks in a row that are read as one run."""

MAX_BARE = 400
"""Characters of an answer within which it shows whether it begins like a call."""

MAX_ENDS = 16
"""How many ends of a call are tried: the first ones may be quoted in its arguments."""

_Kind = Literal["reasoning", "reasoning_end", "call", "stray", "header"]


@dataclass(frozen=True, slots=True)
class _Marker:
    """`ends` are what may end what it begins. `is_content`: the marker is part of the call."""

    kind: _Kind
    ends: tuple[str, ...] = ()
    is_content: bool = False


_BAR = "\N{FULLWIDTH VERTICAL LINE}"
_REASONING_TAGS = ("think", "thinking", "thought", "reasoning", "seed:think")
_REASONING = {
    **{f"<{tag}>": f"</{tag}>" for tag in _REASONING_TAGS},
    "[think]": "[/think]",
    "◁think▷": "◁/think▷",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|start_thinking|>": "<|end_thinking|>",
}
_REASONING_ENDS = tuple(_REASONING.values())
_CALL_TAGS = tuple(
    f"{namespace}{tag}"
    for namespace in ("", "minimax:", "seed:", "antml:", f"{_BAR}DSML{_BAR}".lower())
    for tag in ("tool_call", "tool_calls", "toolcall", "function_call", "function_calls", "functioncall")
)
_CALL_TOKENS: dict[str, tuple[str, ...]] = {
    "<|tool_calls_section_begin|>": ("<|tool_calls_section_end|>",),
    f"<{_BAR}tool▁calls▁begin{_BAR}>": (f"<{_BAR}tool▁calls▁end{_BAR}>",),
    "<|tool_call|>": ("<|/tool_call|>", "</tool_call>"),
    "<|tool_call>": ("<tool_call|>",),
    "<|tool_call_start|>": ("<|tool_call_end|>",),
    "<|start_action|>": ("<|end_action|>",),
    "<|python_tag|>": ("<|eom_id|>", "<|eot_id|>"),
    "[tool_calls]": ("[/tool_calls]",),
    "[tool_request]": ("[end_tool_request]",),
}
_BARE_CALLS: dict[str, tuple[str, ...]] = {
    "<|tool_call_begin|>": ("<|tool_call_end|>",),
    f"<{_BAR}tool▁call▁begin{_BAR}>": (f"<{_BAR}tool▁call▁end{_BAR}>",),
    "<function=": ("</function>",),
    "<invoke name=": ("</invoke>",),
}
_HARMONY_ENDS = ("<|end|>", "<|return|>", "<|call|>")
_HARMONY_BEGINNINGS = ("<|start|>", "<|channel|>")
_HARMONY_MESSAGE = "<|message|>"
_STRAY = (
    *(f"</{tag}>" for tag in _CALL_TAGS),
    *(end for ends in (*_CALL_TOKENS.values(), *_BARE_CALLS.values()) for end in ends),
    *_HARMONY_ENDS,
    _HARMONY_MESSAGE,
    "<|im_end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    f"<{_BAR}end▁of▁sentence{_BAR}>",
    "<|begin_of_solution|>",
    "<|end_of_solution|>",
    "<|start_response|>",
    "<|end_response|>",
)
_MARKERS: dict[str, _Marker] = {
    **{end: _Marker("stray") for end in _STRAY},
    **{tag: _Marker("reasoning", _REASONING_ENDS) for tag in _REASONING},
    **{end: _Marker("reasoning_end") for end in _REASONING_ENDS},
    **{f"<{tag}>": _Marker("call", (f"</{tag}>",)) for tag in _CALL_TAGS},
    **{token: _Marker("call", ends) for token, ends in _CALL_TOKENS.items()},
    **{token: _Marker("call", ends, is_content=True) for token, ends in _BARE_CALLS.items()},
    **{token: _Marker("header") for token in _HARMONY_BEGINNINGS},
}
_LONGEST = max(map(len, _MARKERS))
_FENCED_CALLS = ("tool_code", "tool_call", "tool_calls")
_BEGINNINGS = frozenset(marker[:length] for marker in _MARKERS for length in range(1, len(marker)))

_ANY_MARKER = "|".join(map(re.escape, sorted(_MARKERS, key=len, reverse=True)))
_TOKEN = re.compile(rf"`{{1,{MAX_RUN}}}|~{{1,{MAX_RUN}}}|{_ANY_MARKER}", re.ASCII | re.IGNORECASE)
_FIRST_CHARACTER = re.compile("[<`~◁\\[]")
_CODE_RUN = re.compile(f"`{{1,{MAX_RUN}}}|~{{1,{MAX_RUN}}}")
_RECIPIENT = re.compile(r"\bto=([\w.:/-]{1,128})")
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")
_QUOTES = "\"'`"
_LEFT_OVER = " \t\r\n`]}),;"
_SENTENCE_ENDS = ".!?:…。！？：)"  # noqa: RUF001
_BEFORE_QUOTED = "\"'`(«“‘[*_"  # noqa: RUF001


def _any_of(ends: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, ends)), re.ASCII | re.IGNORECASE)


_ENDS = {ends: _any_of(ends) for ends in {marker.ends for marker in _MARKERS.values()} if ends}
_HARMONY = _any_of((*_HARMONY_ENDS, *_HARMONY_BEGINNINGS))
_FENCE_END = re.compile(r"\n[ \t]{0,8}```")
_BARE_CALL = re.compile(
    r"""\s*(?:```(?:json)?\s*)?\[?\s*\{\s*(?:"type"\s*:\s*"function"\s*,\s*)?"""
    r""""(?:name|tool_name|tool|function)"\s*:\s*"([\w.:/-]{1,128})"\s*,\s*"(?:arguments|parameters|args|input)"\s*:"""
)
_BARE_BEGINNING = re.compile(
    r"""\s*(?:`{1,2}\Z|```(?:j|js|jso)\Z|(?:```(?:json)?\s*)?(?:\[\s*)?"""
    r"""(?:\Z|\{\s*(?:\Z|"(?:[a-z_]{0,9}\Z|(?:type|name|tool_name|tool|function)"))))"""
)
"""What may become the beginning of such a call."""
_NO_END = re.compile(r"(?!)")

_Mode = Literal["text", "fence", "reasoning", "call"]


@dataclass(slots=True)
class _Grown:
    """Text or reasoning, as it grows."""

    kind: Literal["text", "reasoning"]
    pieces: list[str] = field(default_factory=list)

    @property
    def written(self) -> str:
        return "".join(self.pieces)


class AnswerText:
    """The text of one answer, given piece by piece; however it is cut, the result is the same.

    Reasoning in tags is reasoning, also without an opening tag: the text before the closing one is then withdrawn.
    Calls in the notations of models' templates become calls. What a model quotes, in code or in a sentence, stays text.
    Only what may be the beginning of a tag is held back, and a call until its end. An answer that is nothing but the
    JSON of a call is one too, if the tool is one of `tools`.
    """

    def __init__(self, *, continues: bool = False, tools: Set[str] = frozenset()) -> None:
        """`continues`: other text of the same answer came before, so that blank lines at the beginning are meant."""
        self._continues = continues
        self._tools = tools
        self._may_be_bare = bool(tools)
        self._is_bare = False
        self._is_beside_calls = False
        self._buffer = ""
        self._at = 0
        self._mode: _Mode = "text"
        self._deltas: list[Delta] = []
        self._parts: list[_Grown | Call] = []
        self._has_text = False
        self._has_calls = False
        self._blanks = ""
        # Where in Markdown the text is.
        self._line_is_blank = True
        self._previous = "\n"
        self._last_word = "\n"
        self._inline_run = 0
        self._fence = ""
        # What the current reasoning or call ends with.
        self._end = _HARMONY
        self._recipient = ""
        self._call_pieces: list[str] = []
        self._window = ""
        self._search_from = 0
        self._failed_ends: list[tuple[int, int]] = []
        self._quoted_tags = 0
        self._quoted_calls = 0
        self._had_reasoning = False

    def add(self, piece: str) -> Sequence[Delta]:
        """What can be shown of the answer now."""
        if not piece or (self._mode == "call" and not self._ends_call(piece)):
            return ()
        if self._mode == "text" and not self._buffer and self._has_text and not _FIRST_CHARACTER.search(piece):
            self._show(piece)
            return self._taken()
        self._buffer += piece
        self._read(final=False)
        return self._taken()

    @property
    def has_text(self) -> bool:
        return self._has_text

    def end(self, *, with_calls: bool = False, with_text: bool = False) -> Sequence[Delta]:
        """The rest. `with_calls` and `with_text`: the answer has calls, or other text, beside this. Without any,
        reasoning whose end is missing, or that nothing follows, is the answer."""
        self._is_beside_calls = with_calls
        if self._mode == "call":
            self._rejoin_call()
        self._read(final=True)
        is_unclosed = self._mode == "reasoning"
        if (is_unclosed or not (self._has_text or with_text)) and not (with_calls or self._has_calls):
            self._take_back_reasoning()
        return self._taken()

    def parts(self) -> tuple[Part, ...]:
        """The answer so far, in its order."""
        parts: list[Part] = []
        for part in self._parts:
            if isinstance(part, Call):
                parts.append(part)
                continue
            written = text(part.written)
            if part.kind == "text":
                parts.append(Text(written))
            elif thought := written.strip():
                parts.append(Thinking(thought))
        return tuple(parts)

    def _read(self, *, final: bool) -> None:
        """Reads the buffer, as far as it is certain what it means."""
        going = True
        while going:
            match self._mode:
                case "text":
                    going = self._read_text(final)
                case "fence":
                    going = self._read_fence(final)
                case "reasoning":
                    going = self._read_reasoning(final)
                case "call":
                    going = self._read_call(final)
                case _:
                    assert_never(self._mode)
        if self._mode != "call":
            self._buffer, self._at = self._buffer[self._at :], 0

    # Text

    def _read_text(self, final: bool) -> bool:
        """Reads up to the next marker or what it begins. False if nothing more is certain."""
        if self._may_be_bare and not self._has_text and not self._has_calls:
            if not self._knows_beginning(final):
                return False
            if self._is_bare:
                return True
        found = _TOKEN.search(self._buffer, self._at)
        if found is None:
            self._show_to(len(self._buffer) if final else self._held_from())
            return False
        self._show_to(found.start())
        if found[0][0] in "`~":
            return self._read_run(found, final)
        marker = _MARKERS[found[0].lower()]
        if self._inline_run:
            self._show_to(found.end())
            return True
        match marker.kind:
            case "reasoning":
                return self._read_reasoning_tag(found, marker)
            case "reasoning_end":
                return self._read_reasoning_end(found, final)
            case "stray":
                return self._read_stray(found, final)
            case "call":
                return self._read_call_beginning(found, marker, final)
            case "header":
                return self._read_header(found, final)
            case _:
                assert_never(marker.kind)

    def _read_run(self, found: re.Match[str], final: bool) -> bool:
        """Backticks or tildes: a fence, or the beginning or end of code in a line."""
        run, end = found[0], found.end()
        if end == len(self._buffer) and len(run) < MAX_RUN and not final:
            return False
        if len(run) >= 3 and self._line_is_blank and not self._inline_run:
            return self._begin_fence(run, end, final)
        if run[0] == "`":
            self._inline_run = 0 if self._inline_run == len(run) else self._inline_run or len(run)
        self._show_to(end)
        return True

    def _begin_fence(self, run: str, end: int, final: bool) -> bool:
        line = self._buffer[end : end + MAX_BLANKS]
        language, line_end, _ = line.partition("\n")
        language = language.strip().lower()
        is_whole = bool(line_end) or final or len(line) == MAX_BLANKS
        if run == "```" and not is_whole and any(name.startswith(language) for name in _FENCED_CALLS):
            return False
        if run == "```" and line_end and language in _FENCED_CALLS:
            # The line break belongs to the end of the block, which may follow at once.
            self._at = end + line.index("\n")
            self._begin_call(_FENCE_END)
            return True
        self._show_to(end)
        self._mode, self._fence = "fence", run
        return True

    def _read_fence(self, final: bool) -> bool:
        """Reads a block of code up to its end: as many backticks or more, alone on their line."""
        found = _CODE_RUN.search(self._buffer, self._at)
        if found is None:
            self._show_to(len(self._buffer))
            return False
        self._show_to(found.start())
        if found.end() == len(self._buffer) and len(found[0]) < MAX_RUN and not final:
            return False
        if not (found[0].startswith(self._fence) and self._line_is_blank):
            self._show_to(found.end())
            return True
        line = self._buffer[found.end() : found.end() + MAX_BLANKS]
        rest, line_end, _ = line.partition("\n")
        if not (line_end or rest.strip() or final or len(line) == MAX_BLANKS):
            return False
        self._show_to(found.end())
        if not rest.strip():
            self._mode = "text"
        return True

    def _held_from(self) -> int:
        """Where the end of the buffer begins that may be the beginning of a marker."""
        start = max(self._at, len(self._buffer) - _LONGEST)
        for found in _FIRST_CHARACTER.finditer(self._buffer, start):
            if self._buffer[found.start() :].lower() in _BEGINNINGS:
                return found.start()
        return len(self._buffer)

    def _show_to(self, end: int) -> None:
        shown, self._at = self._buffer[self._at : end], end
        if shown:
            self._show(shown)

    def _show(self, shown: str) -> None:
        line_start = shown.rfind("\n") + 1
        if line_start:
            self._line_is_blank, self._inline_run = True, 0
        stripped = shown.rstrip()
        self._line_is_blank = self._line_is_blank and len(stripped) <= line_start
        self._previous = shown[-1]
        self._last_word = stripped[-1:] or self._last_word
        self._emit_text(shown)

    def _emit_text(self, shown: str) -> None:
        """Blank lines before the answer are left out, and blanks between hidden parts wait for text."""
        last = self._parts[-1] if self._parts else None
        if not isinstance(last, _Grown) or last.kind != "text":
            shown = self._blanks + shown
            blank = len(shown) - len(shown.lstrip())
            is_meant = self._has_text or (self._continues and not self._parts)
            line = 0 if is_meant else shown.rfind("\n", 0, blank) + 1
            if blank == len(shown):
                self._blanks = shown[max(line, blank - MAX_BLANKS) :]
                return
            shown, self._blanks = shown[max(line, blank - MAX_BLANKS) :], ""
            last = _Grown("text")
            self._parts.append(last)
            self._has_text = True
        last.pieces.append(shown)
        self._deltas.append(TextDelta(shown))

    # Reasoning

    def _read_reasoning_tag(self, found: re.Match[str], marker: _Marker) -> bool:
        if not self._line_is_blank:
            self._quoted_tags += 1
            self._show_to(found.end())
            return True
        self._at = found.end()
        self._begin_reasoning(_ENDS[marker.ends])
        return True

    def _begin_reasoning(self, end: re.Pattern[str]) -> None:
        self._mode, self._end, self._had_reasoning = "reasoning", end, True
        self._parts.append(_Grown("reasoning"))

    def _read_reasoning(self, final: bool) -> bool:
        found = self._end.search(self._buffer, self._at)
        if found is None:
            self._think_to(len(self._buffer) if final else self._held_from())
            return False
        self._think_to(found.start())
        quote = self._last_thought()
        if quote and quote in _QUOTES:
            if found.end() == len(self._buffer) and not final:
                return False
            if self._buffer.startswith(quote, found.end()):
                self._think_to(found.end())
                return True
        self._at = found.start() if found[0].lower() in _HARMONY_BEGINNINGS else found.end()
        self._go_on_with_text()
        return True

    def _reasoning(self) -> _Grown:
        part = self._parts[-1]
        assert isinstance(part, _Grown)
        return part

    def _last_thought(self) -> str:
        """The last character of the reasoning so far."""
        pieces = self._reasoning().pieces
        return pieces[-1][-1] if pieces else ""

    def _think_to(self, end: int) -> None:
        thought, self._at = self._buffer[self._at : end], end
        pieces = self._reasoning().pieces
        if not pieces:
            thought = thought.lstrip()
        if thought:
            pieces.append(thought)
            self._deltas.append(ReasoningDelta(thought))

    def _read_reasoning_end(self, found: re.Match[str], final: bool) -> bool:
        """An end without a beginning: what was taken for text is reasoning, unless the end is quoted."""
        if self._quoted_tags:
            self._quoted_tags -= 1
            self._show_to(found.end())
            return True
        is_quoted = self._is_quoted(found.end(), final)
        if is_quoted is None:
            return False
        if is_quoted:
            self._show_to(found.end())
            return True
        if not self._had_reasoning and self._has_text:
            self._withdraw_text()
        self._had_reasoning = True
        self._at = found.end()
        self._go_on_with_text()
        return True

    def _withdraw_text(self) -> None:
        thought = "".join(part.written for part in self._parts if isinstance(part, _Grown))
        self._parts = [_Grown("reasoning", [thought]), *(part for part in self._parts if isinstance(part, Call))]
        self._has_text = False
        self._deltas = [Withdrawn(), ReasoningDelta(thought)]

    def _take_back_reasoning(self) -> None:
        """The reasoning that came last is the answer."""
        if self._parts and (thought := self._reasoning().written.strip()):
            self._parts.pop()
            self._emit_text(thought)

    def _is_quoted(self, end: int, final: bool) -> bool | None:
        """Whether what ends here is a part of a sentence; None if that depends on what follows."""
        if self._line_is_blank or not (self._previous.isspace() or self._previous in _BEFORE_QUOTED):
            return False
        if end == len(self._buffer):
            return True if final else None
        return self._buffer[end] != "\n"

    def _read_stray(self, found: re.Match[str], final: bool) -> bool:
        """A token that belongs to no beginning is left out."""
        if self._quoted_calls:
            self._quoted_calls -= 1
            self._show_to(found.end())
            return True
        is_quoted = self._is_quoted(found.end(), final)
        if is_quoted is None:
            return False
        if is_quoted:
            self._show_to(found.end())
        else:
            self._at = found.end()
        return True

    # Calls

    def _read_call_beginning(self, found: re.Match[str], marker: _Marker, final: bool) -> bool:
        after = self._buffer[found.end() : found.end() + MAX_BLANKS]
        first = after.lstrip()[:1]
        if not first and len(after) < MAX_BLANKS and not final:
            return False
        if not self._is_call(first, after):
            self._quoted_calls += 1
            self._show_to(found.end())
            return True
        self._at = found.start() if marker.is_content else found.end()
        self._begin_call(_ENDS[marker.ends])
        return True

    def _is_call(self, first: str, after: str) -> bool:
        """Whether a call begins after the marker, by what is before and after it."""
        is_in_sentence = not self._line_is_blank and (
            self._previous in _BEFORE_QUOTED or (self._previous.isspace() and self._last_word not in _SENTENCE_ENDS)
        )
        if is_in_sentence:
            return False
        if not first or first in "{[<`":
            return bool(first) or self._line_is_blank
        # A name follows at once or on the next line; after a blank it is a word of a sentence.
        return after[:1] == first or "\n" in after[: after.find(first)]

    def _read_header(self, found: re.Match[str], final: bool) -> bool:
        """The header of a message in the Harmony format: reasoning, a call, or text."""
        end = self._buffer.find(_HARMONY_MESSAGE, found.end(), found.end() + MAX_HEADER)
        if end < 0:
            if len(self._buffer) - found.end() < MAX_HEADER and not final:
                return False
            return self._read_stray(found, final=True)
        header = self._buffer[found.start() : end]
        self._at = end + len(_HARMONY_MESSAGE)
        recipient, channel = _RECIPIENT.search(header), _CHANNEL.search(header)
        if recipient is not None:
            self._begin_call(_HARMONY, recipient[1])
        elif channel is not None and channel[1].lower() == "analysis":
            self._begin_reasoning(_HARMONY)
        else:
            self._go_on_with_text()
        return True

    def _knows_beginning(self, final: bool) -> bool:
        """Whether it is known if the answer begins like the JSON of a call, which then begins."""
        start = self._buffer[self._at : self._at + MAX_BARE]
        found = _BARE_CALL.match(start)
        if found is None:
            return final or len(start) == MAX_BARE or _BARE_BEGINNING.match(start) is None
        self._may_be_bare = False
        if found[1] in self._tools:
            self._is_bare = True
            self._begin_call(_NO_END)
        return True

    def _begin_call(self, end: re.Pattern[str], recipient: str = "") -> None:
        self._mode, self._end, self._recipient = "call", end, recipient
        self._buffer, self._at = self._buffer[self._at :], 0
        self._search_from, self._failed_ends = 0, []

    def _ends_call(self, piece: str) -> bool:
        """Whether an end of the call may be in the piece, which is then in the buffer with what came before."""
        self._call_pieces.append(piece)
        window = self._window + piece
        if self._end.search(window) is None:
            self._window = window[-_LONGEST:]
            return False
        self._rejoin_call(to_add=piece)
        return True

    def _rejoin_call(self, to_add: str = "") -> None:
        """Makes the buffer of the pieces of the call, except for the one that is about to be added."""
        pieces = self._call_pieces[:-1] if to_add else self._call_pieces
        self._buffer = "".join((self._buffer, *pieces))
        self._call_pieces, self._window = [], ""

    def _read_call(self, final: bool) -> bool:
        """Reads the call if its end is there, or nothing more comes."""
        while (found := self._end.search(self._buffer, self._search_from)) is not None:
            after = found.start() if found[0].lower() in _HARMONY_BEGINNINGS else found.end()
            if self._take_calls(self._buffer[: found.start()], after):
                return True
            self._failed_ends.append((found.start(), after))
            self._search_from = found.end()
            if len(self._failed_ends) == MAX_ENDS:
                return self._give_up_call()
        if final and self._is_bare:
            return self._end_bare_call()
        if final:
            return self._take_calls(self._buffer, len(self._buffer)) or self._give_up_call()
        self._window = self._buffer[self._search_from :][-_LONGEST:]
        return False

    def _end_bare_call(self) -> bool:
        """The answer is a call if it is nothing else; beside other calls, or among other words, it is text."""
        self._is_bare = False
        found = None if self._is_beside_calls else raw_calls(self._buffer)
        if found is None or found.rest.strip(_LEFT_OVER):
            self._end_call(self._buffer)
        else:
            self._add_calls(found.calls)
            self._end_call("")
        return True

    def _give_up_call(self) -> bool:
        """The call ends at its first end, although it cannot be read."""
        start, after = self._failed_ends[0] if self._failed_ends else (len(self._buffer), len(self._buffer))
        content = self._buffer[:start]
        if content.strip():
            self._add_calls([unreadable_call(content)])
        self._end_call(self._buffer[after:])
        return True

    def _take_calls(self, content: str, after: int) -> bool:
        if self._recipient:
            self._add_calls([RawCall(self._recipient, arguments_text(content))])
            self._end_call(self._buffer[after:])
            return True
        found = raw_calls(content)
        if found is None:
            return False
        self._add_calls(found.calls)
        left = found.rest.strip(_LEFT_OVER)
        self._end_call((f"{found.rest}\n" if left else "") + self._buffer[after:])
        return True

    def _add_calls(self, calls: Iterable[RawCall]) -> None:
        for call in calls:
            self._parts.append(Call(f"written_{len(self._parts)}", text(call.name), call.arguments))
        self._has_calls = True

    def _end_call(self, rest: str) -> None:
        self._buffer, self._at = rest, 0
        self._go_on_with_text()

    # What was found

    def _go_on_with_text(self) -> None:
        self._mode = "text"
        self._line_is_blank, self._previous, self._last_word, self._inline_run = True, "\n", "\n", 0

    def _taken(self) -> Sequence[Delta]:
        """The new deltas, neighbours of a kind as one."""
        if len(self._deltas) < 2:
            taken, self._deltas = self._deltas, []
            return taken
        taken, deltas, self._deltas = [], self._deltas, []
        for delta in deltas:
            match (taken[-1] if taken else None), delta:
                case TextDelta(before), TextDelta(piece):
                    taken[-1] = TextDelta(before + piece)
                case ReasoningDelta(before), ReasoningDelta(piece):
                    taken[-1] = ReasoningDelta(before + piece)
                case _:
                    taken.append(delta)
        return taken

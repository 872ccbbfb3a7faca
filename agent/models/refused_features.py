"""Which feature of a request a server refuses, told by the words of its error."""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.model import ModelError
from agent.models.protocols.wire import Feature

REFUSALS = frozenset({0, 400, 404, 405, 415, 422, 500, 501})
"""The status codes with which servers refuse a feature; 0 inside of a stream. Some report an error of a model's
template, or a missing start parameter, as their own internal error."""


@dataclass(frozen=True, slots=True)
class _Sign:
    """Words by which a server refuses a feature, and words with which they mean something else: regular expressions,
    compiled by `re` when an error is first compared with them, since few servers refuse anything."""

    feature: Feature
    words: str
    unless: str = ""


def _sign(feature: Feature, *words: str, unless: str = "") -> _Sign:
    return _Sign(feature, "|".join(words), unless)


_NOT = r"(?:does(?: not|n'?t)|do(?: not|n'?t)|is not|are not|isn'?t|aren'?t|not(?: be)?)"
_NOT_TAKEN = (
    rf"(?:{_NOT} (?:supported|allowed|permitted|enabled|accepted|available)|{_NOT} support|unsupported|"
    r"unrecogni[sz]ed|unknown|unexpected|extra (?:inputs?|fields?)|additional propert|deprecated|incompatible|"
    r"invalid (?:field|parameter|argument))"
)


def _not_taken(name: str) -> str:
    return rf"{name}.{{0,120}}{_NOT_TAKEN}|{_NOT_TAKEN}.{{0,120}}{name}"


_LENGTH = r"max_(?:completion_|output_|new_)?tokens\b"
_LONG_ANSWERS = _sign(
    "long_answers",
    rf"{_LENGTH}.{{0,40}}\btoo (?:large|high|big)",
    rf"{_LENGTH}.{{0,40}}\b(?:must|should|has to) be (?:less|lower|smaller|at most|<=|between)",
    rf"{_LENGTH}.{{0,40}}\b(?:can(?:not|'t)|may not|must not) (?:be (?:greater|larger|higher|more)|exceed)",
    rf"{_LENGTH}: \d+ > \d+|range of {_LENGTH}|\b(?:[5-9]\d{{3}}|\d{{5,}}) in the completion",
    unless=r"budget_tokens",
)

_SIGNS = (
    _LONG_ANSWERS,
    _sign("previous_response_id", r"previous.?response"),
    _sign("calls_without_signature", r"missing an? \W?thought_?signature"),
    _sign(
        "answers_without_reasoning",
        r"reasoning_content\W* is missing|missing \W?reasoning_content",
        r"(?:reasoning_content|content\[\]\.thinking)\b.{0,40} must be passed back",
    ),
    _sign("stream_options", r"stream_?options|include_usage"),
    _sign("parallel_tool_calls", r"parallel.?(?:tool|function).?call|disable_parallel_tool_use"),
    _sign("max_tokens", r"(?<!\w)max_tokens\b.{0,160}\bmax_completion_tokens\b.{0,3} instead"),
    _sign("max_completion_tokens", _not_taken(r"\bmax_completion_tokens\b")),
    _sign("max_tokens", _not_taken(r"\bmax_(?:output_)?tokens\b")),
    _sign(
        "system_role",
        rf"(?:system|developer) (?:role|message|prompt|instruction)s? {_NOT} (?:supported|enabled|allowed)",
        rf"{_NOT} support (?:the )?'?(?:system|developer)\b",
        r"(?:unexpected|invalid|unknown) (?:message )?role:? ['\"]?(?:system|developer)",
        r"only user(?:, | and |/)(?:assistant|model)(?: and tool)? roles",
    ),
    _sign(
        "consecutive_roles",
        r"roles? must alternate|must alternate between|unexpected role '?\w+'? after role",
        r"(?:multiple|two) consecutive|consecutive (?:user|assistant|messages)|same role in a row",
    ),
    _sign("long_call_ids", r"must be a-z, a-z, 0-9, with a length of 9|call.?id.{0,80}length of 9"),
    _sign("cache_control", r"cache_control|prompt caching"),
    _sign("web_search", r"web.?search"),
    _sign("reasoning_summary", r"reasoning.?summar|organization must be verified"),
    _sign("encrypted_reasoning", r"encrypted.content"),
    _sign("top_p", r"\btop_p\b"),
    _sign("temperature", r"\btemperature\b"),
    _sign(
        "tools",
        r"enable-auto-tool-choice|tools? param requires|support tool use",
        rf"{_NOT} support (?:any )?(?:tools?\b|functions?\b|tool.?(?:use|calls?|calling)|function.?call)",
        rf"(?:tool|function).?(?:use|calls?|calling)\W? {_NOT} (?:supported|enabled|available)",
        rf"(?<![\w.])tools\W? {_NOT} (?:supported|enabled|available|permitted)|body\.tools: extra",
        r"(?:unsupported|unrecogni[sz]ed|unknown)[^.]{0,60}(?<![\w.\[])tools(?![\w.\[])",
    ),
    _sign("tool_choice", r"tool.choice"),
    _sign(
        "reasoning",
        r"reasoning.?effort|reasoning\.(?:enabled|max_tokens)|budget_tokens|thinking.?(?:budget|level|config)",
        r"thinking\.(?:type|enabled|adaptive|disabled)|output_config|enable_thinking|when `?thinking`? is enabled",
        r"reasoning is mandatory",
        _not_taken(r"\b(?:thinking|reasoning)\b"),
        unless=r"(?:messages?|input)[.\[]\s*\d|reasoning_content|reasoning_details",
    ),
)
"""In this order: where one message names two features, the first is refused."""


def refused_feature(error: ModelError) -> Feature | None:
    """The feature that the server refuses with this error; None if the error is about something else."""
    if error.kind == "no_vision":
        return "images"
    if error.was_answer or error.status not in REFUSALS:
        return None
    # Conversation and answer together may be longer than the window: a shorter answer is tried first.
    signs = {"bad_request": _SIGNS, "server": _SIGNS, "too_long": (_LONG_ANSWERS,)}.get(error.kind, ())
    return next((sign.feature for sign in signs if _is_meant(sign, error.detail)), None)


def _is_meant(sign: _Sign, words: str) -> bool:
    return _has(sign.words, words) and not (sign.unless and _has(sign.unless, words))


def _has(pattern: str, words: str) -> bool:
    return re.search(pattern, words, re.IGNORECASE) is not None

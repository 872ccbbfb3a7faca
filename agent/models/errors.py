"""Errors of model servers, translated once: into a class for the code to act on and a message for the person.

What decides, in this order: the server's codes, its words where they are clear, the HTTP status.

status                            class
413, 429 "request too large"      too_long
401, 403, 404, 405                auth
402                               billing
429                               rate_limit
498, 503, 529                     overloaded
408, 504, 524                     timeout
other 5xx, unknown                server
other 4xx                         bad_request

Only words tell `refused` and `no_vision` at most servers, and `too_long` and `billing` at many. Each pattern is made
from messages that real servers send; a test has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import httpx
from aiohttp import ClientResponseError

from agent.model import ModelError, ModelErrorKind
from agent.models.error_report import ErrorReport, report_of
from agent.models.waits import first, wait_in_headers, wait_in_words

MAX_DETAIL_LENGTH = 2_000
MAX_SHOWN_DETAIL = 300

MESSAGES: dict[ModelErrorKind, str] = {
    "overloaded": "The model is overloaded. Please try again in a moment.",
    "rate_limit": "The rate limit of the model's provider is reached. Please try again in a moment.",
    "timeout": "The model did not respond in time. Please try again.",
    "network": "The model could not be reached: the connection failed. Please try again.",
    "server": "The model's provider has an internal error. Please try again.",
    "auth": "The model's provider did not accept the API key, or the key lacks permission. The operator of this "
    "gateway has to check it.",
    "billing": "The account at the model's provider has no credit left. The operator of this gateway has to check it.",
    "refused": "The model's provider refused to answer this. Please rephrase your message.",
    "too_long": "This conversation is too long for the model's context window. Please summarize it with /compact, or "
    "start a new one with /new.",
    "no_vision": "This model does not support pictures, and this conversation has one. Please start a new one with "
    "/new.",
    "bad_request": "The model's provider rejected the request.",
}
"""The message that people read for each class of error."""

UNREADABLE = "The model's answer could not be read. Please try again."


def error_of_response(
    status: int, headers: Mapping[str, str], body: str, *, provider: str, model: str, keys: Sequence[str] = ()
) -> ModelError:
    """The error of a response that is not an answer. `keys` appear in none of its texts.

    `body` may be JSON of any shape, the page of a proxy, or nothing; the names in `headers` are in lower case, or the
    mapping ignores case.
    """
    return _error(report_of(body), status, headers, provider=provider, model=model, keys=keys)


def error_in_stream(error: object, *, provider: str, model: str) -> ModelError:
    """The error that a server sends inside of a stream that began as an answer: the event's JSON value, or its text."""
    report = report_of(error)
    return _error(report, _status_of(report), {}, provider=provider, model=model)


def error_in_place_of_answer(body: object, *, provider: str, model: str) -> ModelError:
    """The error that a server sends with the status of an answer."""
    if not report_of(body).words:
        return ModelError("server", UNREADABLE, was_answer=True)
    return error_in_stream(body, provider=provider, model=model)


@contextmanager
def transport_errors() -> Iterator[None]:
    """Translates what goes wrong on the way to a server and back into `ModelError`."""
    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.TooManyRedirects):
        # An address may contain a key, so it is left out of the traceback.
        raise ModelError(
            "auth", "The base_url of the model's provider is not usable. The operator of this gateway has to check it."
        ) from None
    except httpx.DecodingError as error:
        raise ModelError("server", UNREADABLE, was_answer=True) from error
    except (TimeoutError, httpx.ReadTimeout) as error:
        raise ModelError("timeout", MESSAGES["timeout"]) from error
    except (httpx.TransportError, httpx.StreamError, ClientResponseError, OSError) as error:
        # The second to last is a response that is not HTTP, which the transport of aiohttp does not translate.
        raise ModelError("network", MESSAGES["network"]) from error


def _error(
    report: ErrorReport, status: int, headers: Mapping[str, str], *, provider: str, model: str, keys: Sequence[str] = ()
) -> ModelError:
    retry_after = first(wait_in_headers(headers), report.wait, wait_in_words(report.words))
    kind = _kind(report, status, has_wait=retry_after is not None)
    # Providers quote the key that they reject, whole or in part.
    detail = "" if kind == "auth" and status != 404 else without_keys(report.words, keys)
    message = _message(kind, report, status, detail, provider=provider, model=model)
    return ModelError(kind, message, retry_after=retry_after, detail=detail, status=status)


def _message(kind: ModelErrorKind, report: ErrorReport, status: int, detail: str, *, provider: str, model: str) -> str:
    if kind == "auth" and (status == 404 or _is_unknown_model(report)):
        return (
            f"{provider} has no model {model!r}, or the base_url is wrong. The operator of this gateway has to check."
        )
    if kind == "auth" and (status < 400 or status == 405):
        return f"{provider} does not answer at its base_url. The operator of this gateway has to check it."
    shown = f" It says: {detail[:MAX_SHOWN_DETAIL]}" if kind == "bad_request" and detail else ""
    return f"{MESSAGES[kind]}{shown}"


# Classes

_CODES: dict[ModelErrorKind, frozenset[str]] = {
    "too_long": frozenset(
        {
            "context_length_exceeded",
            "context_window_exceeded",
            "contextwindowexceedederror",
            "exceed_context_size_error",
            "model_context_window_exceeded",
            "request_too_large",
            "tokens_limit_reached",
            "1261",
        }
    ),
    "billing": frozenset(
        {
            "insufficient_quota",
            "insufficient_balance",
            "insufficient_funds",
            "billing_error",
            "billing_hard_limit_reached",
            "billing_not_active",
            "exceeded_current_quota_error",
            "personal-team-blocked:spending-limit",
            "arrearage",
            "accountoverdueerror",
            "1113",
        }
    ),
    "refused": frozenset(
        {
            "content_filter",
            "content_policy_violation",
            "responsibleaipolicyviolation",
            "invalid_prompt",
            "moderation_blocked",
            "datainspectionfailed",
            "data_inspection_failed",
            "new_sensitive",
            "1301",
        }
    ),
    "overloaded": frozenset(
        {
            "overloaded_error",
            "overloaded",
            "server_is_overloaded",
            "engine_overloaded_error",
            "service_tier_capacity_exceeded",
            "unavailable",
            "1305",
        }
    ),
    "rate_limit": frozenset(
        {
            "rate_limit_exceeded",
            "rate_limit_error",
            "rate_limit_reached_error",
            "rate_limited",
            "too_many_requests",
            "throttlingexception",
            "resource_exhausted",
            "1302",
            "1303",
        }
    ),
    "auth": frozenset(
        {
            "invalid_api_key",
            "api_key_invalid",
            "invalid_authentication_error",
            "authentication_error",
            "permission_error",
            "permission_denied",
            "unauthenticated",
        }
    ),
    # The model called a tool in a form that the server cannot read: another attempt usually goes well.
    "server": frozenset({"tool_use_failed", "server_error", "internal_server_error", "api_error"}),
}
"""The codes by which servers name a class; of several, the first class counts. Numbers are those of Z.ai."""

_MODEL_CODES = frozenset({"model_not_found", "model_not_found_error", "modelnotfound", "model_not_exist"})

_STATUS_OF_CODE: dict[str, int] = {
    "invalid_request_error": 400,
    "badrequesterror": 400,
    "invalid_argument": 400,
    "validation": 422,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "permission_denied": 403,
    "not_found_error": 404,
    "not_found": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "resource_exhausted": 429,
    "api_error": 500,
    "internal": 500,
    "server_error": 500,
    "unavailable": 503,
    "deadline_exceeded": 504,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The HTTP status that belongs to an error's type, for errors inside of a stream."""


def _words(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


_TOO_LONG = _words(
    r"exceed(?:s|ed|ing)?(?: the)?(?: model'?s)?(?: available| maximum| max)? context",
    r"context (?:window|length|size|limit)(?: has been| is)? exceed",
    r"(?:maximum|max|model'?s) context (?:length|window|size) (?:is|of|\()",
    r"(?:longer|larger|greater) than the (?:model'?s )?(?:maximum )?(?:context|model) length",
    r"with (?:a )?maximum context length|model maximum context length",
    r"too large for model with",
    r"(?:prompt|input|conversation|message history) (?:is )?too long",
    r"too long to fit",
    r"input token count|input (?:tokens?|length)\b[^.]{0,60}\bexceed",
    r"prompt token count[^.]{0,40} exceeds",
    r"exceeds? (?:the )?(?:configured )?(?:max(?:imum)?(?: allowed)? )?(?:input|prompt) (?:token|length)",
    r"maximum (?:prompt|input|allowed input) length",
    r"max(?:imum)? (?:number of )?input tokens?\b",
    r"exceeded model token limit|prompt exceeds max length|context window exceeds limit",
    r"tokens in request more than max tokens",
    r"range of input length should be|input length too long|input token length too long",
    r"reduce the length of the (?:messages|input|prompt)|decrease (?:the )?input length",
    r"`?inputs`? (?:tokens \+|must have less than \d+ tokens)",
    r"keep the first \d+ tokens when context|tokens to keep from the initial prompt is greater",
    r"mid-generation context overflow|context shift is disabled",
    r"request (?:body )?too large for",
    r"total (?:number of )?tokens[^.]{0,40} (?:exceeds?|cannot exceed)",
    r"too many (?:input )?tokens: total",
    r"long context (?:requests|beta)",
    r"max_(?:completion_)?tokens must be at least 1, got -",
    r"context length exceeded|context size has been exceeded|ContextWindowExceededError",
    r"tokens? .{0,40}exceed.{0,40}context window",
)

_BILLING = _words(
    r"insufficient (?:account )?(?:balance|credits?|funds|quota)",
    r"credit balance is too low|(?:out of|no) credits|used all (?:of )?(?:your |its )?(?:available )?credits",
    r"not enough credits|requires more credits|credits? (?:have|has) (?:been )?(?:run out|exhausted|used up)",
    r"allocated quota exceeded|budget has been exceeded",
    r"exceeded your current quota|quota (?:has been |is )?(?:used up|exhausted|insufficient)|free quota",
    r"spend(?:ing)? limit|billing (?:hard )?limit|usage limits?\b[^.]{0,40}\bregain|specified api usage limits",
    r"payment required|account[^.]{0,60}(?:suspended|overdue|in arrears|not active|in good standing)",
    r"limit: 0\b",
    "余额不足|欠费",
)
_REFUSED = _words(
    r"content filter|content management policy|content policy|content moderation|usage (?:polic|guideline)|\bflagged\b",
    r"inappropriate content|sensitive (?:content|words?)|prohibited content|considered high risk|safety system",
    "不安全或敏感",
)
_NO_VISION = _words(
    r"not (?:a )?multi-?modal",
    r"not support (?:vision|images?(?: input| content|\W*$|\.))",
    r"that support image input",
    r"image (?:input|url)s? (?:is|are) not (?:supported|enabled)",
    r"image_url.{0,20} only supported",
    r"(?:unsupported|unknown|invalid)\b.{0,80}\bimage_url",
    r"at most 0 images?|vision is not (?:supported|enabled)",
)
_BAD_KEY = _words(
    r"api key not valid|(?:incorrect|invalid|expired|missing) api[ _-]?key|api key (?:is )?(?:expired|invalid)",
    r"location is not supported",
)
_UNKNOWN_MODEL = _words(
    r"\bmodels?\b[^.]{0,120}\b(?:not (?:found|exist)|does not exist|not a valid model|is not available)",
    r"(?:unknown|invalid|no such|not a valid) model\b",
    r"unable to access model",
)
_OVERLOADED = _words(
    r"overloaded|high demand|(?:at|over|no) capacity|capacity exceeded|server (?:is )?busy|loading model",
    r"model is (?:currently )?loading",
)
_RATE_LIMIT = _words(r"rate.?limit|too many requests|throttl|(?:requests|tokens) per (?:minute|day|second)")
_REQUEST_TOO_LARGE = _words(r"request too large|long context (?:requests|beta)")
_ABOUT_THE_REQUEST = _words(
    r"no endpoints found that|does(?: not|n'?t) support|not supported|previous.?response|item with id"
)
"""Words of a 404 that is not about the model or the address, but about what is in the request."""


def _kind(report: ErrorReport, status: int, *, has_wait: bool) -> ModelErrorKind:
    by_code = next((kind for kind, codes in _CODES.items() if codes & report.codes), None)
    if by_code in ("too_long", "billing", "refused"):
        return by_code
    words = report.words
    match status:
        case 401:
            return "auth"
        case 402:
            return "billing"
        case 408 | 504 | 524:
            return "timeout"
        case 429:
            return _too_many(report, has_wait=has_wait)
        case 498 | 503 | 529:
            return "overloaded"
        case 403 if _BILLING.search(words):
            return "billing"
        case 403 if _REFUSED.search(words):
            return "refused"
        case 403 | 405:
            return "auth"
        case 404 if not _ABOUT_THE_REQUEST.search(words):
            return "auth"
    if _TOO_LONG.search(words):
        return "too_long"
    if _NO_VISION.search(words):
        return "no_vision"
    if status >= 500:
        return "overloaded" if by_code == "overloaded" or _OVERLOADED.search(words) else "server"
    return _rejection(report, status, by_code, has_wait=has_wait)


def _too_many(report: ErrorReport, *, has_wait: bool) -> ModelErrorKind:
    """A 429: waiting does not help against a request that is larger than the limit, nor against an empty account."""
    if _REQUEST_TOO_LARGE.search(report.words):
        return "too_long"
    if report.codes & _CODES["overloaded"] or _OVERLOADED.search(report.words):
        return "overloaded"
    used_up = {found[0].lower() for found in _BILLING.finditer(report.words)}
    if has_wait:
        # Gemini calls every limit a quota, also one that is free again in seconds.
        used_up.discard("exceeded your current quota")
    return "billing" if used_up else "rate_limit"


def _rejection(report: ErrorReport, status: int, by_code: ModelErrorKind | None, *, has_wait: bool) -> ModelErrorKind:
    words = report.words
    if status == 413:
        return "too_long"
    if _REFUSED.search(words):
        return "refused"
    if _BILLING.search(words):
        return "rate_limit" if has_wait else "billing"
    # The status of a rejection says more than that something failed; a call that the server cannot read is none.
    if by_code is not None and (by_code != "server" or status == 0 or "tool_use_failed" in report.codes):
        return by_code
    if _BAD_KEY.search(words) or _is_unknown_model(report):
        return "auth"
    if status in (0, 400) and _RATE_LIMIT.search(words):
        return "rate_limit"
    if status == 0:
        return "overloaded" if _OVERLOADED.search(words) else "server"
    return "bad_request" if status >= 400 else "auth"


def _is_unknown_model(report: ErrorReport) -> bool:
    return bool(report.codes & _MODEL_CODES) or (
        _UNKNOWN_MODEL.search(report.words) is not None and not _ABOUT_THE_REQUEST.search(report.words)
    )


def _status_of(report: ErrorReport) -> int:
    return report.status or next((_STATUS_OF_CODE[code] for code in sorted(report.codes) if code in _STATUS_OF_CODE), 0)


_MIN_PART = 6
"""Characters of a part of a key that is worth hiding. A shorter key, as of local servers, is hidden as a word only."""


def without_keys(words: str, keys: Sequence[str]) -> str:
    """The beginning of the words, without keys, their parts, and what a server has made partly unreadable."""
    words = words[:MAX_DETAIL_LENGTH]
    for key in sorted(filter(None, keys), key=len, reverse=True):
        if len(key) < _MIN_PART:
            words = re.sub(rf"(?<!\w){re.escape(key)}(?!\w)", "…", words)
            continue
        words = words.replace(key, "…")
        for part in set(re.findall(rf"[\w-]{{{_MIN_PART},}}", words)):
            words = words.replace(part, "…") if part in key else words
    return re.sub(r"\S{0,200}\*{3,}\S{0,200}", "…", words)

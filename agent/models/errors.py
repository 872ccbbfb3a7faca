"""What goes wrong at a provider, translated once: a class to act on, and words for a person.

Library error                                   trouble
ModelContextWindowExceededError, 413, words     too_long
ModelAuthenticationError, ModelNotFoundError    auth
ModelQuotaExceededError                         billing
ModelRateLimitError                             rate_limit
ModelUnavailableError: 503, 529                 overloaded
TimeoutError (ours), 408, 504, 524              timeout
ModelConnectionError, httpx2                    network
ModelServerError, broken answers                server
content filters, by code or words               refused
pictures not wanted, by words                   no_vision
all other refusals                              bad_request

Words count only where providers have no code of their own for it. Each pattern is made of messages that real servers
send; a test has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from pydantic_ai.exceptions import (
    AgentRunError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelNotFoundError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestRejectedError,
    ModelUnavailableError,
)

from agent.model import ModelError, ModelTrouble

LONGEST_DETAIL = 300

_REFUSED_CODES = frozenset({"content_filter", "content_policy_violation"})
_REFUSED = re.compile(r"content filter|content management policy|content policy|usage polic|\bflagged\b", re.IGNORECASE)
_TOO_LONG = re.compile(
    r"exceeds? (?:the )?(?:available )?context|maximum context length|(?:prompt|input) is too long|input token count",
    re.IGNORECASE,
)
_NO_PICTURES = re.compile(
    r"""
    not \ (?:a \ )? multi-?modal
    | not \ support \ (?: vision | images? (?: \ input | \ content | \W*$ | \. ) )
    | that \ support \ image \ input
    | image \ (?: input | url )s? \ (?: is | are ) \ not \ supported
    | image_url .{0,20} \ only \ supported
    | (?: unsupported | unknown ) \b .{0,80} \b image_url
    """,
    re.IGNORECASE | re.VERBOSE,
)

WORDS: dict[ModelTrouble, str] = {
    "overloaded": "The model is overloaded at the moment. Please try again in a little while.",
    "rate_limit": "The model's provider allows no more requests for now. Please try again in a little while.",
    "timeout": "The model did not answer in time. Please try again.",
    "network": "The model could not be reached: the connection failed. Please try again.",
    "server": "The model's provider has a fault of its own. Please try again.",
    "auth": "The model's provider did not accept the API key, or does not allow it this. Whoever runs this gateway has "
    "to check it.",
    "billing": "The account at the model's provider is used up. Whoever runs this gateway has to see to it.",
    "refused": "The model's provider refused to answer this. Please put it differently.",
    "too_long": "This conversation has become too long for the model. Please start a new one with /new.",
    "no_vision": "This model cannot look at pictures, and there is one in this conversation. Please start a new one "
    "with /new.",
    "bad_request": "The model's provider did not accept the request.",
}
"""What people are told of each trouble."""


@contextmanager
def model_errors(provider: str, name: str, api_key: str | None) -> Iterator[None]:
    """Raises whatever a provider's library raises as `ModelError`; the key appears in none of it."""
    try:
        yield
    except ModelAPIError as error:
        # Providers quote the key they refuse, whole or in part: such a cause is left out of every traceback.
        quotes_key = isinstance(error, ModelAuthenticationError) or (api_key is not None and api_key in str(error))
        raise _model_error(error, provider, name, api_key) from (None if quotes_key else error)
    except TimeoutError as error:
        raise ModelError("timeout", WORDS["timeout"]) from error
    except (httpx2.TransportError, httpx2.StreamError, OSError) as error:
        raise ModelError("network", WORDS["network"]) from error
    except (AgentRunError, ValueError) as error:
        raise ModelError("server", "The model's answer could not be read. Please try again.") from error


def _model_error(error: ModelAPIError, provider: str, name: str, api_key: str | None) -> ModelError:
    trouble = _trouble(error)
    if trouble in ("bad_request", "auth", "server") and _NO_PICTURES.search(_message(error.body)):
        return ModelError("no_vision", WORDS["no_vision"])
    return ModelError(trouble, _words(trouble, error, provider, name, api_key), retry_after=error.retry_after)


def _trouble(error: ModelAPIError) -> ModelTrouble:
    match error:
        case ModelContextWindowExceededError() | ModelHTTPError(status_code=413):
            return "too_long"
        case ModelAuthenticationError() | ModelNotFoundError():
            # OpenAI's words for the latter: "does not exist or you do not have access to it".
            return "auth"
        case ModelQuotaExceededError():
            return "billing"
        case ModelRateLimitError():
            return "rate_limit"
        case ModelUnavailableError():
            return "overloaded"
        case ModelConnectionError():
            # Also ModelTimeoutError: the SDKs' timeouts are off, and one transport calls a refused connection that.
            return "network"
        case ModelHTTPError(status_code=408 | 504 | 524):
            return "timeout"
        case ModelRequestRejectedError():
            return _rejection(error)
        case ModelHTTPError(status_code=status) if status < 500:
            return _rejection(error)
        case _:
            return "server"


def _rejection(error: ModelAPIError) -> ModelTrouble:
    message = _message(error.body)
    if error.provider_error_code in _REFUSED_CODES or _REFUSED.search(message):
        return "refused"
    return "too_long" if _TOO_LONG.search(message) else "bad_request"


def _words(trouble: ModelTrouble, error: ModelAPIError, provider: str, name: str, api_key: str | None) -> str:
    if isinstance(error, ModelNotFoundError):
        return f"{provider} knows no model {name!r}, or the base_url is wrong. Whoever runs this gateway has to check."
    detail = _detail(error, api_key) if trouble == "bad_request" else ""
    return f"{WORDS[trouble]} It says: {detail}" if detail else WORDS[trouble]


def _detail(error: ModelAPIError, api_key: str | None) -> str:
    message = _message(error.body)
    return (message.replace(api_key, "…") if api_key else message)[:LONGEST_DETAIL]


def _message(body: object) -> str:
    """The provider's own words: OpenAI's SDK hands over the error object, Anthropic's the body around it."""
    match body:
        case {"error": {"message": str(message)}} | {"message": str(message)}:
            return message
        case _:
            return ""

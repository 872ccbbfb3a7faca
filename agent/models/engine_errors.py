"""Errors of providers, translated once: into a class for the code to act on and a message for the person.

Library error                                   class
ModelContextWindowExceededError, 413, text      too_long
ModelAuthenticationError, ModelNotFoundError    auth
ModelQuotaExceededError                         billing
ModelRateLimitError                             rate_limit
ModelUnavailableError: 503, 529                 overloaded
TimeoutError (ours), 408, 504, 524              timeout
ModelConnectionError, httpx2                    network
ModelServerError, unreadable answers            server
content filters, by code or text                refused
images not supported, by text                   no_vision
all other rejections                            bad_request

The text of an error is matched only where providers have no error code for it. Each pattern is made from messages that
real servers send; a test has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx2
from pydantic_ai.exceptions import (
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

from agent.model import ModelError, ModelErrorKind

MAX_DETAIL_LENGTH = 300

_REFUSED_CODES = frozenset({"content_filter", "content_policy_violation"})
_REFUSED = re.compile(r"content filter|content management policy|content policy|usage polic|\bflagged\b", re.IGNORECASE)
_TOO_LONG = re.compile(
    r"exceeds? (?:the )?(?:available )?context|maximum context length|(?:prompt|input) is too long|input token count",
    re.IGNORECASE,
)
_NO_VISION = re.compile(
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
    "too_long": "This conversation is too long for the model's context window. Please start a new one with /new.",
    "no_vision": "This model does not support pictures, and this conversation has one. Please start a new one with "
    "/new.",
    "bad_request": "The model's provider rejected the request.",
}
"""The message that people read for each class of error."""


@contextmanager
def model_errors(
    provider: str, name: str, api_key: str | None, not_translated: Sequence[Exception] = ()
) -> Iterator[None]:
    """Translates the exceptions of a provider's library into `ModelError`. The key appears in none of them.

    `not_translated`: exceptions that have another cause than the provider.
    """
    try:
        yield
    except ModelError:
        raise
    except ModelAPIError as error:
        # Providers quote the key that they reject, whole or in part: such a cause is left out of every traceback.
        quotes_key = isinstance(error, ModelAuthenticationError) or (api_key is not None and api_key in str(error))
        raise _model_error(error, provider, name, api_key) from (None if quotes_key else error)
    except TimeoutError as error:
        raise ModelError("timeout", MESSAGES["timeout"]) from error
    except (httpx2.TransportError, httpx2.StreamError, OSError) as error:
        raise ModelError("network", MESSAGES["network"]) from error
    except Exception as error:
        # An answer of an odd form can make the library raise anything.
        if any(error is other for other in not_translated):
            raise
        raise ModelError(
            "server", "The model's answer could not be read. Please try again.", was_answer=True
        ) from error


def _model_error(error: ModelAPIError, provider: str, name: str, api_key: str | None) -> ModelError:
    kind = _kind(error)
    if kind in ("bad_request", "auth", "server") and _NO_VISION.search(_provider_message(error.body)):
        return ModelError("no_vision", MESSAGES["no_vision"])
    return ModelError(kind, _message(kind, error, provider, name, api_key), retry_after=error.retry_after)


def _kind(error: ModelAPIError) -> ModelErrorKind:
    match error:
        case ModelContextWindowExceededError() | ModelHTTPError(status_code=413):
            return "too_long"
        case ModelAuthenticationError() | ModelNotFoundError():
            # OpenAI's message for the latter: "does not exist or you do not have access to it".
            return "auth"
        case ModelQuotaExceededError():
            return "billing"
        case ModelRateLimitError():
            return "rate_limit"
        case ModelUnavailableError():
            return "overloaded"
        case ModelConnectionError():
            # Also ModelTimeoutError: the SDKs' timeouts are off, and one transport reports a refused connection as it.
            return "network"
        case ModelHTTPError(status_code=408 | 504 | 524):
            return "timeout"
        case ModelRequestRejectedError():
            return _rejection(error)
        case ModelHTTPError(status_code=status) if status < 500:
            return _rejection(error)
        case _:
            return "server"


def _rejection(error: ModelAPIError) -> ModelErrorKind:
    message = _provider_message(error.body)
    if error.provider_error_code in _REFUSED_CODES or _REFUSED.search(message):
        return "refused"
    return "too_long" if _TOO_LONG.search(message) else "bad_request"


def _message(kind: ModelErrorKind, error: ModelAPIError, provider: str, name: str, api_key: str | None) -> str:
    if isinstance(error, ModelNotFoundError):
        return f"{provider} has no model {name!r}, or the base_url is wrong. The operator of this gateway has to check."
    detail = _detail(error, api_key) if kind == "bad_request" else ""
    return f"{MESSAGES[kind]} It says: {detail}" if detail else MESSAGES[kind]


def _detail(error: ModelAPIError, api_key: str | None) -> str:
    message = _provider_message(error.body)
    return (message.replace(api_key, "…") if api_key else message)[:MAX_DETAIL_LENGTH]


def _provider_message(body: object) -> str:
    """The provider's own message: OpenAI's SDK passes the error object, Anthropic's the body around it."""
    match body:
        case {"error": {"message": str(message)}} | {"message": str(message)}:
            return message
        case _:
            return ""

"""What model servers say when they refuse: each class, in the words of real servers."""

import json
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as some

from agent.model import ModelError, ModelErrorKind
from agent.models.errors import error_in_stream, error_of_response, transport_errors
from agent.models.refused_features import refused_feature

KEY = "sk-proj-very-secret-4711"


def refused(status: int, body: object = "", headers: dict[str, str] | None = None) -> ModelError:
    text = body if isinstance(body, str) else json.dumps(body)
    return error_of_response(status, headers or {}, text, provider="acme", model="test-model", keys=(KEY,))


def openai(message: str, *, code: object = None, type: str = "invalid_request_error") -> dict[str, object]:
    return {"error": {"message": message, "type": type, "param": None, "code": code}}


TOO_LONG = {
    "OpenAI": "This model's maximum context length is 8192 tokens. However, your messages resulted in 10000 tokens.",
    "OpenAI Responses": "Your input exceeds the context window of this model. Please adjust your input and try again.",
    "OpenAI limit": "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 290000.",
    "Anthropic": "prompt is too long: 209999 tokens > 200000 maximum",
    "Anthropic max_tokens": "input length and `max_tokens` exceed context limit: 178959 + 64000 > 200000, decrease "
    "input length or `max_tokens` and try again",
    "Google": "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576).",
    "Vertex": "The input token count is 1100000 but model only supports up to 1048576.",
    "Mistral": "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
    "Moonshot": "Invalid request: Your request exceeded model token limit: 131072 (requested: 140000)",
    "Moonshot old": "Input token length too long",
    "Z.ai": "Prompt exceeds max length",
    "Z.ai old": "tokens in request more than max tokens allowed",
    "DashScope": "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 98304]",
    "Volcano": "Input length 203743 exceeds the maximum length 202752.",
    "xAI": "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
    "MiniMax": "invalid params, context window exceeds limit (2013)",
    "DeepSeek": "This model's maximum context length is 65536 tokens. However, you requested 69648 tokens (69648 in "
    "the messages, 0 in the completion). Please reduce the length of the messages or completion.",
    "Groq": "Please reduce the length of the messages or completion.",
    "Fireworks": "The prompt is too long: 40000, model maximum context length: 32767",
    "Together": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193. Given: 9000",
    "SGLang": "The input (400013 tokens) is longer than the model's context length (262144 tokens).",
    "SGLang requested": "Requested token count exceeds the model's maximum context length of 8192 tokens.",
    "SGLang allowed": "Input length (160062 tokens) exceeds the maximum allowed length (59862 tokens).",
    "vLLM": "This model's maximum context length is 262144 tokens. However, you requested 0 output tokens and your "
    "prompt contains at least 262145 input tokens, for a total of at least 262145 tokens. (parameter=input_tokens)",
    "vLLM decoder": "The decoder prompt (length 41119) is longer than the maximum model length of 40960.",
    "vLLM fit": "The prompt (total length 25938) is too long to fit into the model (context length 4096).",
    "vLLM negative": "max_tokens must be at least 1, got -1234.",
    "TGI": "Input validation error: `inputs` must have less than 1024 tokens. Given: 1234",
    "llama.cpp": "the request exceeds the available context size, try increasing it",
    "llama.cpp numbers": "request (9000 tokens) exceeds the available context size (4096 tokens), try increasing it",
    "MLX": "Context size has been exceeded.",
    "LM Studio": "Trying to keep the first 15857 tokens when context the overflows. However, the model is loaded with "
    "context length of only 4096 tokens, which is not enough.",
    "LM Studio keep": "The number of tokens to keep from the initial prompt is greater than the context length.",
    "LM Studio reached": "Reached context length of 4096 tokens with this model, but this model does not currently "
    "support mid-generation context overflow.",
    "Ollama": "the input length exceeds the context length",
    "Ollama cloud": "prompt too long; exceeded max context length by 4096 tokens",
    "OpenRouter": "This endpoint's maximum context length is 16384 tokens. However, you requested about 94307 tokens.",
    "Bedrock": "Input is too long for requested model.",
    "Cohere": "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 4292.",
    "GitHub": "Request body too large for gpt-4o model. Max size: 8000 tokens.",
    "Copilot": "prompt token count of 130000 exceeds the limit of 128000",
    "LiteLLM": "Context Window exceeded for given call. No models have context window large enough for this call.",
}


@pytest.mark.parametrize("message", TOO_LONG.values(), ids=TOO_LONG)
@pytest.mark.parametrize("status", [400, 422, 500])
def test_too_long_is_recognised_in_the_words_of_each_server(message: str, status: int) -> None:
    error = refused(status, openai(message))
    assert error.kind == "too_long"
    assert "/new" in str(error)


@pytest.mark.parametrize("message", TOO_LONG.values(), ids=TOO_LONG)
def test_too_long_inside_a_stream_is_recognised_too(message: str) -> None:
    for told in (openai(message)["error"], {"error": message}, message, json.dumps(openai(message))):
        assert error_in_stream(told, provider="acme", model="m").kind == "too_long"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, openai("No.", code="context_length_exceeded")),
        (400, {"error": {"code": 400, "message": "No.", "type": "exceed_context_size_error", "n_ctx": 4096}}),
        (400, {"error": {"code": "1261", "message": "No."}}),
        (413, {"type": "error", "error": {"type": "request_too_large", "message": "Request exceeds the maximum size"}}),
        (413, "<html><head><title>413 Request Entity Too Large</title></head></html>"),
        (413, openai("Request too large for model `llama` on tokens per minute (TPM): Limit 6000, Requested 7000")),
        (429, openai("Request too large for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000")),
        (429, {"type": "error", "error": {"message": "Extra usage is required for long context requests."}}),
    ],
)
def test_too_long_is_recognised_by_code_and_status(status: int, body: object) -> None:
    assert refused(status, body).kind == "too_long"


@pytest.mark.parametrize(
    "message",
    [
        "Invalid 'messages[2].tool_calls[0].id': string too long. Expected a string with maximum length 40.",
        "Invalid 'tools[0].function.description': string too long. Expected a string with maximum length 1024.",
        "max_tokens is too large: 100000. This model supports at most 16384 completion tokens.",
        "messages.0.content.1.image.source.base64: image exceeds 5 MB maximum",
        "Invalid value for 'temperature': 3 exceeds the maximum of 2.",
    ],
)
def test_other_things_that_are_too_long_are_not_the_conversation(message: str) -> None:
    assert refused(400, openai(message)).kind == "bad_request"


def test_a_rate_limit_that_counts_tokens_is_no_overlong_conversation() -> None:
    message = "This request would exceed your organization's rate limit of 30,000 input tokens per minute."
    assert (
        refused(429, {"type": "error", "error": {"type": "rate_limit_error", "message": message}}).kind == "rate_limit"
    )


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        # A used-up account, by code or only in words.
        (429, openai("You exceeded your current quota.", code="insufficient_quota"), "billing"),
        (429, openai("You exceeded your current quota, please check your plan and billing details."), "billing"),
        (429, {"error": {"code": "1113", "message": "Insufficient balance or no resource package."}}, "billing"),
        (429, {"error": {"message": "Your account is suspended", "type": "exceeded_current_quota_error"}}, "billing"),
        (
            429,
            {"code": "x", "error": "Your team has used all available credits or reached its spending limit."},
            "billing",
        ),
        (403, {"error": "Your newly created team doesn't have any credits or reached its spending limit."}, "billing"),
        (
            412,
            {"error": {"message": "Account acme is suspended, possibly due to reaching the monthly limit"}},
            "billing",
        ),
        (402, {"error": {"message": "Insufficient Balance"}}, "billing"),
        (
            400,
            {"code": "Arrearage", "message": "Access denied, make sure your account is in good standing."},
            "billing",
        ),
        (400, {"error": {"message": "Your credit balance is too low to access the Anthropic API."}}, "billing"),
        (
            400,
            {"error": {"message": "You have reached your specified API usage limits. You will regain access"}},
            "billing",
        ),
        (200, {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, "billing"),
        (403, {"error": {"message": "Free allocated quota exceeded.", "code": "AllocationQuota"}}, "billing"),
        (400, openai("Budget has been exceeded! Current cost: 10.2, Max budget: 10.0"), "billing"),
        # Gemini calls every limit a quota.
        (
            429,
            [{"error": {"code": 429, "message": "You exceeded your current quota. Please retry in 34.07s."}}],
            "rate_limit",
        ),
        (
            429,
            [{"error": {"code": 429, "message": "You exceeded your current quota. limit: 0. Retry in 3s."}}],
            "billing",
        ),
        (429, openai("Rate limit reached for gpt-5: Limit 30000, Used 29000. Please try again in 2s."), "rate_limit"),
        (429, "", "rate_limit"),
        (
            429,
            {"error": {"message": "The engine is currently overloaded", "type": "engine_overloaded_error"}},
            "overloaded",
        ),
        (498, "", "overloaded"),
        (503, {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}, "overloaded"),
        (529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "overloaded"),
        (502, "<html><head><title>502 Bad Gateway</title></head><body>…</body></html>", "server"),
        (500, {"error": {"code": 500, "message": "Internal error encountered.", "status": "INTERNAL"}}, "server"),
        (400, openai("Failed to call a function.", code="tool_use_failed"), "server"),
        (504, "", "timeout"),
        # Keys and addresses.
        (400, [{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key."}}], "auth"),
        (400, {"code": "Client error", "error": f"Incorrect API key provided: {KEY}."}, "auth"),
        (400, {"error": {"message": "User location is not supported for the API use."}}, "auth"),
        (403, "<html><title>Forbidden</title></html>", "auth"),
        (404, {"error": "model 'qwen9' not found, try pulling it first"}, "auth"),
        (
            400,
            {"object": "error", "message": "Invalid model: test-model", "type": "invalid_model", "code": "1500"},
            "auth",
        ),
        (400, openai("Model Not Exist"), "auth"),
        (405, "Method Not Allowed", "auth"),
        (302, "", "auth"),
        # What a filter holds back.
        (400, openai("No.", code="content_filter"), "refused"),
        (400, {"error": {"code": "1301", "message": "No."}}, "refused"),
        (400, {"code": "DataInspectionFailed", "message": "Input data may contain inappropriate content."}, "refused"),
        (403, {"error": {"message": "Your chosen model requires moderation and your input was flagged"}}, "refused"),
        (400, openai("The request was rejected because it was considered high risk"), "refused"),
        (403, {"error": "Content violates usage guidelines. Failed check: SAFETY_CHECK"}, "refused"),
        (500, openai("litellm.BadRequestError: litellm.ContextWindowExceededError: AnthropicException"), "too_long"),
        # What the request is wrong about.
        (404, openai("No endpoints found that support tool use."), "bad_request"),
        (404, openai("Item with id 'rs_1' not found."), "bad_request"),
        (
            404,
            openai("Previous response with id 'resp_1' not found.", code="previous_response_not_found"),
            "bad_request",
        ),
        (400, "", "bad_request"),
        (418, "teapot", "bad_request"),
    ],
)
def test_each_refusal_has_its_class(status: int, body: object, kind: ModelErrorKind) -> None:
    assert refused(status, body).kind == kind


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, "overloaded"),
        ({"code": 502, "message": "Provider returned error"}, "server"),
        ({"code": 429, "message": "Rate limited"}, "rate_limit"),
        ({"object": "error", "message": "bad", "type": "BadRequestError", "param": None, "code": 400}, "bad_request"),
        ({"code": "server_error", "message": "An error occurred"}, "server"),
        ({"code": "rate_limit_exceeded", "message": "Rate limit reached. Please try again in 3s."}, "rate_limit"),
        ({"code": "invalid_prompt", "message": "flagged"}, "refused"),
        ({"type": "authentication_error", "message": "invalid"}, "auth"),
        ({"type": "invalid_request_error", "message": "no"}, "bad_request"),
        ("upstream connect error", "server"),
        (None, "server"),
        (17, "server"),
        ([], "server"),
    ],
)
def test_an_error_inside_of_a_stream_has_its_class(told: object, kind: ModelErrorKind) -> None:
    assert error_in_stream(told, provider="acme", model="m").kind == kind


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry-after": "7"}, "", 7),
        ({"retry-after": "1.5"}, "", 1.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, "", 0.25),
        ({"retry-after": "1m30s"}, "", 90),
        ({"x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-remaining-tokens": "0"}, "", 360),
        ({"x-ratelimit-reset-requests": "120ms", "x-ratelimit-remaining-requests": "0"}, "", 0.12),
        (
            {
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-requests": "99",
                "x-ratelimit-reset-tokens": "40s",
                "x-ratelimit-remaining-tokens": "0",
            },
            "",
            40,
        ),
        ({"x-ratelimit-reset-requests": "24h", "x-ratelimit-remaining-requests": "99"}, "", None),
        ({}, openai("Rate limit reached. Please try again in 20s. Visit https://…"), 20),
        ({}, openai("Please try again in 7m12.5s."), 432.5),
        ({}, openai("Please try again in 450ms."), 0.45),
        ({}, openai("Too many requests. Please retry after 3 seconds."), 3),
        ({}, [{"error": {"message": "Quota", "details": [{"@type": "RetryInfo", "retryDelay": "34s"}]}}], 34),
        ({}, {"error": {"message": "no", "retry_after": 12}}, 12),
        ({"retry-after": "soon"}, "", None),
        ({"retry-after": "-1"}, "", None),
        ({"retry-after": "inf"}, "", None),
        ({}, "", None),
    ],
)
def test_the_wait_is_understood_in_each_form(headers: dict[str, str], body: object, seconds: float | None) -> None:
    assert refused(429, body, headers).retry_after == seconds


def test_a_wait_may_be_a_date_or_a_moment() -> None:
    then = datetime.now(UTC) + timedelta(seconds=60)
    for headers in (
        {"retry-after": format_datetime(then, usegmt=True)},
        {"x-ratelimit-reset": str(then.timestamp())},
        {"anthropic-ratelimit-requests-reset": then.isoformat(), "anthropic-ratelimit-requests-remaining": "0"},
    ):
        assert refused(429, "", headers).retry_after == pytest.approx(60, abs=3)
    nested = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(then.timestamp() * 1000))}
    told = {"error": {"code": 429, "message": "free-models-per-day", "metadata": {"headers": nested}}}
    assert refused(429, told).retry_after == pytest.approx(60, abs=3)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (openai("no temperature"), "no temperature"),
        ({"error": "no temperature"}, "no temperature"),
        ({"message": "no temperature"}, "no temperature"),
        ({"detail": "no temperature"}, "no temperature"),
        ({"detail": [{"loc": ["body", "x"], "msg": "Extra inputs"}]}, "body.x: Extra inputs"),
        ({"message": {"detail": [{"loc": ["body", "x"], "msg": "Extra inputs"}]}}, "body.x: Extra inputs"),
        ({"error": {"message": "Unknown field", "param": "top_p"}}, "Unknown field; (top_p)"),
        ({"errors": [{"code": 7, "message": "no temperature"}]}, "no temperature"),
        (
            {"error": {"message": "Provider returned error", "metadata": {"raw": '{"error": {"message": "deeper"}}'}}},
            "Provider returned error; deeper",
        ),
        ('data: {"error": {"message": "framed"}}\n\n', "framed"),
        ("  just\n words ", "just words"),
        ("<!DOCTYPE html><html><head><title>Bad request</title></head></html>", "Bad request"),
        ('{"error": {"message": "half', '{"error": {"message": "half'),
        ("", ""),
    ],
)
def test_what_a_server_says_is_found_in_any_form(body: object, detail: str) -> None:
    error = refused(400, body)
    assert error.detail == detail
    assert detail in str(error)
    assert error.status == 400


@pytest.mark.parametrize(
    "message",
    [
        f"no temperature for {KEY}",
        "no temperature for sk-proj-very-secret-…",
        "no temperature for sk-proj-****4711",
        f"no temperature: {{'Authorization': 'Bearer {KEY}'}}",
    ],
)
def test_a_key_is_never_shown_neither_whole_nor_in_part(message: str) -> None:
    error = refused(400, openai(message))
    assert "no temperature" in str(error)
    shown = "".join(traceback.format_exception(error)) + error.detail
    assert all(secret not in shown for secret in (KEY, "secret", "4711", "sk-proj"))


def test_of_a_refused_key_nothing_is_told() -> None:
    error = refused(401, openai("Incorrect API key provided: sk-12**34."))
    assert (error.kind, error.detail) == ("auth", "")
    assert "sk-" not in str(error)


@pytest.mark.parametrize(
    ("status", "message", "feature"),
    [
        (400, "Unknown parameter: 'stream_options'.", "stream_options"),
        (422, "body.stream_options: Extra inputs are not permitted", "stream_options"),
        (400, "Unsupported parameter: 'parallel_tool_calls' is not supported with this model.", "parallel_tool_calls"),
        (400, "Unrecognized request argument supplied: parallel_tool_calls", "parallel_tool_calls"),
        (
            400,
            "Unsupported parameter: 'max_tokens' is not supported here. Use 'max_completion_tokens' instead.",
            "max_tokens",
        ),
        (400, "Unrecognized request argument supplied: max_completion_tokens", "max_completion_tokens"),
        (400, "Unsupported value: 'temperature' does not support 0.2 with this model.", "temperature"),
        (400, "deepseek-reasoner does not support the parameter `temperature`", "temperature"),
        (400, "`temperature` is deprecated for this model.", "temperature"),
        (400, "`temperature` and `top_p` cannot both be specified for this model.", "top_p"),
        (400, "`temperature` may only be set to 1 when thinking is enabled.", "temperature"),
        (400, "registry.ollama.ai/library/gemma:2b does not support tools", "tools"),
        (500, "tools param requires --jinja flag", "tools"),
        (500, "Unsupported param: tools", "tools"),
        (404, "No endpoints found that support tool use.", "tools"),
        (400, "Function calling is not enabled for models/gemma-3-27b-it", "tools"),
        (400, "`tool calling` is not supported with this model", "tools"),
        (400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set', "tools"),
        (400, "tools is not supported in this model. For a list of supported models, refer to …", "tools"),
        (400, "deepseek-reasoner does not support this tool_choice", "tool_choice"),
        (400, "System role not supported", "system_role"),
        (400, "Developer instruction is not enabled for models/gemma-3-27b-it", "system_role"),
        (500, "Only user, assistant and tool roles are supported, got system", "system_role"),
        (400, "Unsupported value: 'messages[0].role' does not support 'system' with this model.", "system_role"),
        (400, "Conversation roles must alternate user/assistant/user/assistant/...", "consecutive_roles"),
        (
            500,
            "After the optional system message, conversation roles must alternate user and assistant",
            "consecutive_roles",
        ),
        (400, "Unexpected role 'user' after role 'tool'", "consecutive_roles"),
        (400, "Tool call id was call_1 but must be a-z, A-Z, 0-9, with a length of 9.", "long_call_ids"),
        (
            400,
            "thinking is enabled but reasoning_content is missing in assistant tool call message at index 7",
            "answers_without_reasoning",
        ),
        (400, "Missing `reasoning_content` field in the assistant message at message", "answers_without_reasoning"),
        (
            400,
            "The `reasoning_content` in the thinking mode must be passed back to the API.",
            "answers_without_reasoning",
        ),
        (
            400,
            "The `content[].thinking` in the thinking mode must be passed back to the API.",
            "answers_without_reasoning",
        ),
        (
            400,
            "Function call is missing a thought_signature in functionCall parts. This is required for tools to work.",
            "calls_without_signature",
        ),
        (
            400,
            "function call `look` in the 3. content block is missing a `thought_signature`",
            "calls_without_signature",
        ),
        (400, "system.0.cache_control: Extra inputs are not permitted", "cache_control"),
        (400, "Unrecognized request argument supplied: reasoning_effort", "reasoning"),
        (400, 'think value "high" is not supported for this model; "qwen" does not support thinking', "reasoning"),
        (400, "Unsupported value: 'reasoning_effort' does not support 'minimal' with this model.", "reasoning"),
        (400, '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive".', "reasoning"),
        (400, "max_tokens must be greater than thinking.budget_tokens", "reasoning"),
        (400, "max_tokens is too large: 100000. This model supports at most 16384 completion tokens.", "long_answers"),
        (
            400,
            "max_tokens: 16384 > 8192, which is the maximum allowed number of output tokens for claude-3-5-haiku",
            "long_answers",
        ),
        (400, "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", "long_answers"),
        (400, "`max_tokens` must be less than or equal to `8192`, the maximum value for this model", "long_answers"),
        (422, "body.max_tokens: Input should be less than or equal to 4096", "long_answers"),
        (
            400,
            "'max_tokens' or 'max_completion_tokens' is too large: 16384. This model's maximum context length is 8192 "
            "tokens and your request has 1200 input tokens (16384 > 8192 - 1200).",
            "long_answers",
        ),
        (
            400,
            "This model's maximum context length is 8192 tokens. However, you requested 17000 tokens (616 in the "
            "messages, 16384 in the completion). Please reduce the length of the messages or completion.",
            "long_answers",
        ),
        (400, "Previous response with id 'resp_1' not found.", "previous_response_id"),
        (400, "Your organization must be verified to generate reasoning summaries.", "reasoning_summary"),
        (400, "Encrypted content is not supported with this model.", "encrypted_reasoning"),
        (400, "this model does not support image input", "images"),
        (400, "At most 0 image(s) may be provided in one prompt.", "images"),
    ],
)
def test_a_refused_feature_is_known_by_the_words_of_real_servers(status: int, message: str, feature: str) -> None:
    assert refused_feature(refused(status, openai(message))) == feature


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "Invalid schema for function 'shell': None is not of type 'array'."),
        (400, "messages.3.content.8: `thinking` blocks in the latest assistant message cannot be modified."),
        (400, "messages.1.content.0: Invalid `signature` in `thinking` block"),
        (400, "Could not process image"),
        (400, "max_tokens must be at least 1, got -800."),
        (
            400,
            "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens (8488 in the "
            "messages, 512 in the completion). Please reduce the length of the messages or completion.",
        ),
        (400, "An assistant message with 'tool_calls' must be followed by tool messages."),
        (401, "You may not use tools: temperature is not supported"),
        (429, "temperature is not supported"),
        (503, "tools are not supported"),
        (400, ""),
    ],
)
def test_an_error_about_something_else_is_about_no_feature(status: int, message: str) -> None:
    assert refused_feature(refused(status, openai(message))) is None


@given(
    some.recursive(
        some.none() | some.booleans() | some.integers() | some.floats() | some.text(),
        lambda inner: (
            some.lists(inner)
            | some.dictionaries(
                some.sampled_from(
                    ["error", "message", "code", "type", "detail", "metadata", "raw", "param", "status", "loc"]
                ),
                inner,
            )
        ),
    )
)
def test_whatever_a_server_says_it_is_one_error(told: object) -> None:
    assert error_in_stream(told, provider="acme", model="m").kind
    assert refused(400, json.dumps(told)).status == 400


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (httpx.ConnectError("refused"), "network"),
        (httpx.ConnectTimeout("slow"), "network"),
        (httpx.ReadTimeout("slow"), "timeout"),
        (httpx.RemoteProtocolError("cut"), "network"),
        (httpx.DecodingError("not gzip"), "server"),
        (httpx.UnsupportedProtocol(f"no scheme {KEY}"), "auth"),
        (httpx.InvalidURL(f"no host {KEY}"), "auth"),
        (TimeoutError(), "timeout"),
        (OSError("gone"), "network"),
    ],
)
def test_trouble_on_the_way_has_its_class(trouble: Exception, kind: ModelErrorKind) -> None:
    with pytest.raises(ModelError) as raised, transport_errors():
        raise trouble
    assert raised.value.kind == kind
    assert KEY not in "".join(traceback.format_exception(raised.value))

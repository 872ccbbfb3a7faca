"""Context windows of well-known models, so that conversations can be kept within them."""

from __future__ import annotations

DEFAULT = 128_000
"""Tokens assumed for a model that is not in the table."""

# Tokens, by the prefix of the model's name; the longest prefix wins. Where the provider limits the input below the
# window, as OpenAI does for gpt-5 (https://platform.openai.com/docs/models), the number is that limit.
# Models change: `context_window` in the settings takes precedence over this table.
_WINDOWS: dict[str, int] = {
    "chatgpt-4o": 128_000,
    "claude-": 200_000,
    "claude-2.0": 100_000,
    "claude-instant": 100_000,
    "claude-fable-5": 1_000_000,
    "claude-haiku-5": 1_000_000,
    "claude-mythos-5": 1_000_000,
    "claude-opus-4-6": 1_000_000,
    "claude-opus-4-7": 1_000_000,
    "claude-opus-4-8": 1_000_000,
    "claude-opus-5": 1_000_000,
    "claude-sonnet-4-6": 1_000_000,
    "claude-sonnet-5": 1_000_000,
    "codestral": 256_000,
    "codex-mini": 200_000,
    "command-light": 4_096,
    "deepseek-chat": 64_000,
    "deepseek-reasoner": 64_000,
    "deepseek-v4": 1_000_000,
    "gemini-": 1_000_000,
    "gemini-pro": 32_768,
    "gemini-1.0": 32_768,
    "gemini-1.5-pro": 2_000_000,
    "gpt-3.5-turbo": 16_385,
    "gpt-4": 8_192,
    "gpt-4-32k": 32_768,
    "gpt-4-turbo": 128_000,
    "gpt-4-vision": 128_000,
    "gpt-4-1106": 128_000,
    "gpt-4-0125": 128_000,
    "gpt-4.1": 1_000_000,
    "gpt-4.5": 128_000,
    "gpt-4o": 128_000,
    "gpt-5": 272_000,
    "gpt-5-chat": 128_000,
    "gpt-5.1-chat": 128_000,
    "gpt-5.2-chat": 128_000,
    "gpt-5.3": 128_000,
    "gpt-5.3-codex": 272_000,
    "gpt-5.4": 900_000,
    "gpt-5.4-mini": 272_000,
    "gpt-5.4-nano": 272_000,
    "gpt-5.5": 900_000,
    "gpt-5.6": 900_000,
    "gpt-6": 900_000,
    "gpt-oss": 131_072,
    "grok-2": 32_768,
    "grok-3": 131_072,
    "grok-4": 256_000,
    "grok-4-fast": 2_000_000,
    "grok-4-1-fast": 2_000_000,
    "kimi-k2": 131_072,
    "kimi-k3": 1_000_000,
    "llama-3.": 131_072,
    "llama3": 8_192,
    "mixtral-8x7b": 32_768,
    "moonshot-v1-8k": 8_192,
    "moonshot-v1-32k": 32_768,
    "o1": 200_000,
    "o1-mini": 128_000,
    "o1-preview": 128_000,
    "o3": 200_000,
    "o4-mini": 200_000,
}


def context_window_of(name: str) -> int:
    """The model's context window in tokens, its answer included; the default for a model that is not known."""
    return known_window_of(name) or DEFAULT


def known_window_of(name: str) -> int | None:
    """The model's context window; None if it is not known. `name` with its provider before a colon, or without.

    A reseller's prefix before a slash is ignored ("anthropic/claude-sonnet-5"), and so is its way of writing versions
    ("claude-sonnet-4.6").
    """
    bare = name.rpartition("/")[2].lower()
    # A name may have colons of its own, like "qwen3:8b".
    for candidate in (bare, bare.partition(":")[2]):
        spellings = (candidate, candidate.replace(".", "-"))
        if matching := [prefix for prefix in _WINDOWS if any(name.startswith(prefix) for name in spellings)]:
            return _WINDOWS[max(matching, key=len)]
    return None

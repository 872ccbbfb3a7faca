"""Providers that are known by name: where their servers are, what they speak, and what they are known to refuse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ProviderType = Literal["openai", "openai-responses", "anthropic"]
"""The protocol: Chat Completions, Responses, or Anthropic's Messages."""

Refused = Literal["stream_options", "consecutive_roles", "long_call_ids", "max_completion_tokens"]
"""A feature that a server is known to refuse, under its name in `agent.models.protocols.wire`."""

CLOUD_FIRST_TOKEN = 60
LOCAL_FIRST_TOKEN = 300
"""Seconds. A local server may have to load the model first, and reads a long prompt slowly."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A known provider. `base_url` "" must be set by the operator; `anthropic_url` is where it speaks Anthropic's
    protocol besides its own, "" if nowhere.

    `key_variable` is the environment variable that usually holds the key, "" for a server that needs none. `key_header`
    is the header of the key if it is not the protocol's own. `is_local`: it runs on the operator's machine and costs
    nothing. `tells_cost`: it says what each answer costs. `lists_all`: a model that its list lacks does not exist.
    """

    base_url: str
    key_variable: str
    type: ProviderType = "openai"
    anthropic_url: str = ""
    key_header: str = ""
    without: frozenset[Refused] = frozenset({"max_completion_tokens"})
    is_local: bool = False
    tells_cost: bool = False
    lists_all: bool = False


def _local(port: int) -> Preset:
    return Preset(f"http://127.0.0.1:{port}/v1", "", anthropic_url=f"http://127.0.0.1:{port}", is_local=True)


PRESETS: Mapping[str, Preset] = {
    "openai": Preset("https://api.openai.com/v1", "OPENAI_API_KEY", without=frozenset(), lists_all=True),
    "anthropic": Preset(
        "https://api.anthropic.com", "ANTHROPIC_API_KEY", "anthropic", "https://api.anthropic.com", lists_all=True
    ),
    # https://ai.google.dev/gemini-api/docs/openai
    "google": Preset("https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
    # https://openrouter.ai/docs/api-reference/overview
    "openrouter": Preset(
        "https://openrouter.ai/api/v1",
        "OPENROUTER_API_KEY",
        anthropic_url="https://openrouter.ai/api",
        tells_cost=True,
    ),
    # https://console.groq.com/docs/openai
    "groq": Preset("https://api.groq.com/openai/v1", "GROQ_API_KEY", without=frozenset()),
    # https://api-docs.deepseek.com
    "deepseek": Preset(
        "https://api.deepseek.com", "DEEPSEEK_API_KEY", anthropic_url="https://api.deepseek.com/anthropic"
    ),
    # https://docs.mistral.ai/api: unknown fields are refused; counts of tokens come without being asked for.
    "mistral": Preset(
        "https://api.mistral.ai/v1",
        "MISTRAL_API_KEY",
        without=frozenset({"stream_options", "consecutive_roles", "long_call_ids", "max_completion_tokens"}),
    ),
    # https://docs.x.ai/docs/api-reference
    "xai": Preset("https://api.x.ai/v1", "XAI_API_KEY", without=frozenset()),
    # https://docs.together.ai/docs/openai-api-compatibility
    "together": Preset("https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    # https://docs.fireworks.ai/tools-sdks/openai-compatibility
    "fireworks": Preset("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    # https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle
    "azure": Preset("", "AZURE_OPENAI_API_KEY", key_header="api-key", without=frozenset()),
    "ollama": _local(11434),
    "lmstudio": _local(1234),
    "vllm": _local(8000),
    "llamacpp": _local(8080),
}

OTHER = Preset("", "")
"""What is assumed of a provider under any other name: that it is compatible, and no more."""


def preset_of(name: str) -> Preset:
    return PRESETS.get(name, OTHER)


def key_variables() -> dict[str, str]:
    """The environment variable of each known provider's key."""
    return {name: preset.key_variable for name, preset in PRESETS.items() if preset.key_variable}

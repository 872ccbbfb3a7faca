"""Settings of the models: how each provider is reached, and the parameters and prices of its models."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, get_args
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, InstanceOf, JsonValue, SecretStr

from config.errors import Fault, Key, did_you_mean
from config.presets import CLOUD_FIRST_TOKEN, LOCAL_FIRST_TOKEN, PRESETS, ProviderType, preset_of
from config.section import Secret, Section, WebAddress, wrong

MIN_CONTEXT_WINDOW = 4000
"""Tokens. A smaller window has no room for instructions, tools and an answer."""

Effort = Literal["off", "minimal", "low", "medium", "high", "max"]
EFFORTS = get_args(Effort)

_CREDENTIAL = re.compile(r"auth|cookie|key|password|secret|signature|token", re.IGNORECASE)
"""Names of headers and query parameters whose values are secrets."""


def _demo_or_provider_and_name(text: str) -> str:
    if text != "demo" and not provider_and_name(text)[1]:
        raise wrong('expected "demo" or "provider:name", like "openai:gpt-5"')
    return text


def _provider_and_name(text: str) -> str:
    if not all(provider_and_name(text)):
        raise wrong('expected "provider:name", like "openai:gpt-5"')
    return text


def _one_or_many(given: object) -> object:
    if not isinstance(given, str | list):
        raise wrong('expected text in quotes, or a list, like ["…", "…"]')
    if not given:
        raise wrong("is empty")
    return [given] if isinstance(given, str) else given


def _hidden_by_name(given: object) -> object:
    """The table with the values hidden that are secrets by their names."""
    if not isinstance(given, dict):
        return given
    return {
        name: SecretStr(value) if isinstance(value, str) and _CREDENTIAL.search(str(name)) else value
        for name, value in given.items()
    }


def _effort_or_budget(given: object) -> object:
    if isinstance(given, str) and given.strip().isdecimal():
        given = int(given)
    is_budget = isinstance(given, int) and not isinstance(given, bool) and given > 0
    if not is_budget and given not in EFFORTS:
        efforts = ", ".join(f'"{effort}"' for effort in EFFORTS)
        raise wrong(f"expected one of {efforts}, or a number of tokens")
    return given


def _large_enough(tokens: int) -> int:
    if tokens < MIN_CONTEXT_WINDOW:
        raise wrong(f"expected {MIN_CONTEXT_WINDOW} or more")
    return tokens


ModelName = Annotated[str, AfterValidator(_demo_or_provider_and_name)]
RealModelName = Annotated[str, AfterValidator(_provider_and_name)]
Keys = Annotated[list[Secret], BeforeValidator(_one_or_many)]
Text = Annotated[InstanceOf[SecretStr] | str, Field(union_mode="left_to_right")]
Texts = Annotated[dict[str, Text], BeforeValidator(_hidden_by_name)]
"""Texts by name. Those that are secrets by their names are hidden."""
Reasoning = Annotated[Effort | int, BeforeValidator(_effort_or_budget)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class PriceSettings(Section):
    """Price of a model, in dollars per million tokens."""

    input: Amount = Field(description="Input tokens.")
    output: Amount = Field(description="Output tokens, reasoning included.")
    cache_read: Amount | None = Field(
        default=None,
        description="Input tokens read from the prompt cache. Default: the price of input.",
    )
    cache_write: Amount | None = Field(
        default=None,
        description="Input tokens written to the prompt cache. Default: the price of input.",
    )


class ModelParameters(Section):
    """Parameters of requests to models."""

    temperature: float | None = Field(
        default=None,
        ge=0,
        le=2,
        description="Randomness of answers, from 0 (the most likely words) to 2. Default: the provider's.",
        examples=[0.7],
    )
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Maximum number of tokens of one answer of the model, reasoning included. Default: the provider's.",
        examples=[8000],
    )
    reasoning: Reasoning | None = Field(
        default=None,
        description='How much the model reasons before it answers: "off", "minimal", "low", "medium", "high", "max", '
        "or a budget in tokens. Default: the provider's.",
        examples=["medium"],
    )
    top_p: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Share of the most likely words that answers are chosen from. Default: the provider's.",
        examples=[0.95],
    )


class ModelSettings(ModelParameters):
    """One model of a provider: its parameters, what it can do, and its price."""

    parallel_tool_calls: bool | None = Field(
        default=None,
        description="Whether the model may call several tools at once. Default: the provider's.",
        examples=[False],
    )
    vision: bool | None = Field(
        default=None,
        description="Whether the model sees pictures. Default: it is sent them, until the provider refuses.",
        examples=[True],
    )
    tools: bool | None = Field(
        default=None,
        description="Whether the model can call tools. Default: it is offered them, until the provider refuses.",
        examples=[True],
    )
    context_window: Annotated[int, AfterValidator(_large_enough)] | None = Field(
        default=None,
        description="The model's context window in tokens. Default: the known window of the model, else 128000.",
        examples=[128000],
    )
    price: PriceSettings | None = Field(
        default=None,
        description="Price in dollars per million tokens: input and output, optionally cache_read and cache_write. "
        "Default: the built-in price list.",
        examples=[{"input": 1.25, "output": 10.0, "cache_read": 0.125}],
    )


class ProviderSettings(Section):
    """A provider of models: one that is known by name, or any other server. [models.<name>."<model>"] has the
    settings of one of its models."""

    model_config = ConfigDict(extra="allow")
    # Every other key is the name of a model. Pydantic takes the type of extra keys from here.
    __pydantic_extra__: dict[str, ModelSettings] = Field(init=False)

    type: ProviderType | None = Field(
        default=None,
        description='The protocol: "openai" (Chat Completions, which most servers speak), "openai-responses", or '
        '"anthropic" (Messages). Default: that of the known provider. Required under another name.',
        examples=["openai"],
    )
    base_url: WebAddress | None = Field(
        default=None,
        description="URL of the server, where it is not the known provider's own. Required under another name, and "
        "for azure. A query is kept.",
        examples=["http://127.0.0.1:9999/v1"],
    )
    api_key: Keys | None = Field(
        default=None,
        description="API key, or a list of keys that are used in turn. Default, unless base_url is set: the "
        "provider's standard environment variable.",
        examples=["${NAME}"],
    )
    headers: Texts = Field(
        default_factory=dict,
        description="Headers that are sent with each request.",
        examples=[{"X-Team": "support"}],
    )
    query: Texts = Field(
        default_factory=dict,
        description="Query parameters that are sent with each request.",
        examples=[{"api-version": "2024-10-21"}],
    )
    extra_body: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Fields that are added to the JSON of each request.",
        examples=[{"service_tier": "flex"}],
    )
    first_token_timeout: int | None = Field(
        default=None,
        ge=1,
        description=f"Seconds to wait for the first token. Models with hidden reasoning need more. Default: "
        f"{CLOUD_FIRST_TOKEN}, or {LOCAL_FIRST_TOKEN} for ollama, lmstudio, vllm and llamacpp.",
        examples=[120],
    )
    silence_timeout: int = Field(
        default=60,
        ge=1,
        description="Seconds to wait for the next token in the middle of an answer.",
    )
    requests_per_minute: int | None = Field(
        default=None,
        ge=1,
        description="Maximum number of requests per minute; further ones wait. Default: no limit.",
        examples=[60],
    )
    web_search: bool = Field(
        default=False,
        description="Whether the models may use the provider's own web search, which is billed per search. Only for "
        "the types anthropic and openai-responses.",
    )
    keeps_state: bool = Field(
        default=False,
        description="Whether the server may keep the conversation and is sent only what is new. Only for the type "
        "openai-responses.",
    )

    @property
    def models(self) -> Mapping[str, ModelSettings]:
        """The settings of its models, by name."""
        return {name: given for name, given in self if isinstance(given, ModelSettings)}

    @property
    def credentials(self) -> Iterator[SecretStr]:
        """What is secret in the URL."""
        url = urlsplit(self.base_url or "")
        values = [value for name, value in parse_qsl(url.query) if _CREDENTIAL.search(name)]
        yield from (SecretStr(value) for value in (*values, url.password) if value)


def provider_and_name(model: str) -> tuple[str, str]:
    """The provider and the model's name there, of a name in the settings like "ollama:qwen3:8b"."""
    provider, _, name = model.partition(":")
    return provider, name


def type_of(name: str, given: ProviderSettings) -> ProviderType:
    return given.type or preset_of(name).type


def url_of(name: str, given: ProviderSettings) -> str:
    """The base URL, "" if there is none."""
    preset = preset_of(name)
    if given.base_url is not None:
        return given.base_url
    return preset.anthropic_url if type_of(name, given) == "anthropic" else preset.base_url


def is_at_home(name: str, given: ProviderSettings) -> bool:
    """Whether it is a known provider at its own address, so that what is known of that provider holds."""
    return name in PRESETS and (given.base_url is None or not PRESETS[name].base_url)


def needs_key(name: str, given: ProviderSettings) -> bool:
    """Whether nothing works without a key."""
    return is_at_home(name, given) and bool(preset_of(name).key_variable)


def revealed(texts: Mapping[str, SecretStr | str]) -> dict[str, str]:
    return {name: text.get_secret_value() if isinstance(text, SecretStr) else text for name, text in texts.items()}


def faults_of(name: str, given: ProviderSettings) -> Iterator[Fault]:
    """What is wrong with a provider's section as a whole."""
    key: Key = ("models", name)
    if name == "demo" or ":" in name:
        yield Fault(key, 'expected another name: a provider\'s name has no colon, and is not "demo"')
    elif name not in PRESETS and given.type is None:
        hint = did_you_mean(name, list(PRESETS))
        yield Fault(key, f'unknown provider. {hint} Another server needs type = "openai" and base_url')
    elif not url_of(name, given):
        yield Fault((*key, "base_url"), "is missing")
    kind = type_of(name, given)
    if given.web_search and kind == "openai":
        yield Fault((*key, "web_search"), "only available with type anthropic or openai-responses")
    if given.keeps_state and kind != "openai-responses":
        yield Fault((*key, "keeps_state"), "only available with type openai-responses")
    versions = {*given.query, *re.findall(r"[?&]([^=&]+)=", given.base_url or "")}
    if name == "azure" and "/deployments/" in (given.base_url or "") and "api-version" not in versions:
        yield Fault((*key, "query"), 'needs { api-version = "…" } with a base_url of a deployment')


def fault_of_model(model: str, providers: Mapping[str, ProviderSettings]) -> str | None:
    """What is wrong with a model's name, whose form is right: its provider is unknown, or cannot be reached."""
    provider, _ = provider_and_name(model)
    if model == "demo":
        return None
    if provider not in providers and provider not in PRESETS:
        known = [*PRESETS, *(name for name in providers if name not in PRESETS)]
        return (
            f"unknown provider. {did_you_mean(provider, known)} Another server needs a section [models.<name>] with "
            "type and base_url"
        )
    given = providers.get(provider, ProviderSettings())
    if not url_of(provider, given):
        return f"{provider} needs base_url in [models.{provider}]"
    if needs_key(provider, given) and not given.api_key:
        variable = preset_of(provider).key_variable
        return (
            f"{provider} needs an API key. Set the environment variable {variable}, or api_key in [models.{provider}]"
        )
    return None

"""Settings of the models: how each provider is reached, and the prices of its models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, field_validator

from config.section import Secret, Section, WebAddress, refuse_entries, wrong

Provider = Literal["openai", "anthropic"]

PROVIDERS: tuple[Provider, ...] = get_args(Provider)
KEY_VARIABLES: Mapping[str, str] = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}


def _demo_or_provider_and_name(text: str) -> str:
    provider, _, name = text.partition(":")
    if text != "demo" and not name:
        raise wrong('expected "demo" or "provider:name", like "openai:gpt-5"')
    if text != "demo" and provider not in PROVIDERS:
        raise wrong(
            "unknown provider. Known: openai, anthropic. For an OpenAI-compatible server use "
            '"openai:name" and set base_url in [models.openai]'
        )
    return text


def _provider_and_name(text: str) -> str:
    if ":" not in text:
        raise wrong('expected "provider:name", like "openai:gpt-5"')
    return _demo_or_provider_and_name(text)


ModelName = Annotated[str, AfterValidator(_demo_or_provider_and_name)]
RealModelName = Annotated[str, AfterValidator(_provider_and_name)]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class PriceSettings(Section):
    """Price of a model, in dollars per million tokens."""

    input: Price = Field(description="Input tokens.")
    output: Price = Field(description="Output tokens, reasoning included.")
    cache_read: Price | None = Field(
        default=None,
        description="Input tokens read from the prompt cache. Default: the price of input.",
    )
    cache_write: Price | None = Field(
        default=None,
        description="Input tokens written to the prompt cache. Default: the price of input.",
    )


class ModelSettings(Section):
    """A model provider."""

    api_key: Secret | None = Field(
        default=None,
        description="API key. Default, unless base_url is set: the provider's standard environment variable.",
        examples=["${NAME}"],
    )
    base_url: WebAddress | None = Field(
        default=None,
        description="URL of another server that is compatible with the provider's API.",
        examples=["http://127.0.0.1:9999/v1"],
    )
    first_token_timeout: int = Field(
        default=60,
        ge=1,
        description="Seconds to wait for the first token. Models with hidden reasoning need more.",
    )
    silence_timeout: int = Field(
        default=60,
        ge=1,
        description="Seconds to wait for the next token in the middle of an answer.",
    )
    web_search: bool = Field(
        default=False,
        description="Whether Anthropic's models may use Anthropic's own web search, which is billed per search.",
    )
    price: dict[str, PriceSettings] = Field(
        default_factory=dict,
        description="Prices by model name, without the provider, in dollars per million tokens: input and output, "
        "optionally cache_read and cache_write. They override the built-in price list.",
        examples=[{"gpt-5": {"input": 1.25, "output": 10.0, "cache_read": 0.125}}],
    )

    @field_validator("price")
    @classmethod
    def _names_without_provider(cls, price: dict[str, PriceSettings]) -> dict[str, PriceSettings]:
        refuse_entries(
            [name for name in price if name.partition(":")[0] in PROVIDERS],
            "expected the model's name without its provider",
        )
        return price

"""What can be set for the models: how each provider is reached, and what its models cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, field_validator

from config.section import Secret, Section, WebAddress, refuse_entries, wrong

Provider = Literal["openai", "anthropic"]

PROVIDERS: tuple[Provider, ...] = get_args(Provider)
USUAL_KEY: Mapping[str, str] = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}


def _demo_or_provider_and_name(text: str) -> str:
    provider, _, name = text.partition(":")
    if text != "demo" and not name:
        raise wrong('expected "demo" or "provider:name", like "openai:gpt-5"')
    if text != "demo" and provider not in PROVIDERS:
        raise wrong(
            "no such provider. Known: openai, anthropic. A server that speaks OpenAI's protocol is "
            '"openai:name" with its address as base_url in [models.openai]'
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
    """What a model costs, in dollars per million tokens."""

    input: Price = Field(description="For what the model is shown.")
    output: Price = Field(description="For what it writes, with what it thinks.")
    cache_read: Price | None = Field(
        default=None,
        description="For what it is shown and has in its cache. Without it: the price of input.",
    )
    cache_write: Price | None = Field(
        default=None,
        description="For what goes into its cache. Without it: the price of input.",
    )


class ModelSettings(Section):
    """How to reach a model provider."""

    api_key: Secret | None = Field(
        default=None,
        description="The key. Without it, and without a base_url: the provider's usual environment variable.",
        examples=["${NAME}"],
    )
    base_url: WebAddress | None = Field(
        default=None,
        description="The address of another server that speaks the provider's protocol.",
        examples=["http://127.0.0.1:9999/v1"],
    )
    first_token_timeout: int = Field(
        default=60,
        ge=1,
        description="For how many seconds a model may say nothing at first. Models that think unseen need more.",
    )
    silence_timeout: int = Field(
        default=60,
        ge=1,
        description="For how many seconds a model may fall silent in the middle of an answer.",
    )
    web_search: bool = Field(
        default=False,
        description="Whether Anthropic lets its models search the web by itself. It bills each search.",
    )
    price: dict[str, PriceSettings] = Field(
        default_factory=dict,
        description="What its models cost, by their names without the provider, in dollars per million tokens: input "
        "and output, and if they differ from input cache_read and cache_write. Goes before the prices that Interject "
        "comes with.",
        examples=[{"gpt-5": {"input": 1.25, "output": 10.0, "cache_read": 0.125}}],
    )

    @field_validator("price")
    @classmethod
    def _names_alone(cls, price: dict[str, PriceSettings]) -> dict[str, PriceSettings]:
        refuse_entries(
            [name for name in price if name.partition(":")[0] in PROVIDERS],
            "expected the model's name without its provider",
        )
        return price

"""Models from settings, with their prices, and the transcriber of voice notes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from agent.context.tokens import estimate_tokens
from agent.media import MediaStore
from agent.model import Model, Request
from agent.models.chain import wrap_provider_model
from agent.models.prices import Price, price_of
from agent.models.protocols import chat_completions
from agent.models.provider import ModelOptions, Provider, Timeouts
from config.models import ModelSettings
from config.settings import Settings
from gateway.inbound.attachments import ReadFile
from gateway.inbound.file_text import FileReader

TYPICAL_ANSWER_TOKENS = 1000


async def open_models(settings: Settings, media: MediaStore, stack: AsyncExitStack) -> dict[str, Model]:
    """Every model named in the settings, by name; each connects on first use."""
    agent = settings.agent
    named = [
        agent.model,
        *agent.fallback,
        agent.small_model,
        *(channel.model for channel in settings.channels.values()),
    ]
    names = dict.fromkeys(name for name in named if name)
    return {name: await stack.enter_async_context(_open_model(settings, name, media)) for name in names}


@asynccontextmanager
async def _open_model(settings: Settings, model: str, media: MediaStore) -> AsyncIterator[Model]:
    provider, _, name = model.partition(":")
    if provider == "demo":
        from agent.models.demo import DemoModel

        yield DemoModel()
        return
    from agent.models.providers import ProviderModel

    given = _given(settings, provider)
    opened = ProviderModel(_provider(provider, given), ModelOptions(name), media)
    try:
        yield wrap_provider_model(opened, model, _price(settings, model))
    finally:
        await opened.aclose()


def _provider(name: str, given: ModelSettings) -> Provider:
    key = _key(given)
    url = given.base_url or ("https://api.anthropic.com" if name == "anthropic" else "https://api.openai.com/v1")
    return Provider(
        name,
        "anthropic" if name == "anthropic" else "openai",
        url,
        keys=(key,) if key else (),
        timeouts=Timeouts(given.first_token_timeout, given.silence_timeout),
        without=chat_completions.refused_at(url),
        web_search=given.web_search,
    )


def _given(settings: Settings, provider: str) -> ModelSettings:
    """The provider's settings, or the defaults."""
    return next((given for name, given in settings.models.items() if name == provider), ModelSettings())


def _key(given: ModelSettings) -> str | None:
    return None if given.api_key is None else given.api_key.get_secret_value()


def default_model(settings: Settings, channel: str) -> str:
    """The model of a channel's conversations that have chosen none."""
    own = settings.channels.get(channel)
    return (own and own.model) or settings.agent.model


def _price(settings: Settings, model: str) -> Price | None:
    given = _given(settings, model.partition(":")[0])
    own = {name: Price(p.input, p.output, p.cache_read, p.cache_write) for name, p in given.price.items()}
    return price_of(model, own)


def cost_of(settings: Settings, request: Request, channel: str) -> float:
    """The approximate cost of the request there, in dollars, with an answer of typical length."""
    price = _price(settings, request.model or default_model(settings, channel))
    if price is None:
        return 0.0
    written = request.settings.max_tokens or TYPICAL_ANSWER_TOKENS
    return (estimate_tokens(request) * price.input + written * price.output) / 1_000_000


@asynccontextmanager
async def open_reader(settings: Settings, media: MediaStore) -> AsyncIterator[ReadFile]:
    """Reads the text of people's files; of voice notes only with a transcription model."""
    if settings.agent.transcription_model is None:
        yield FileReader(media).read
        return
    from agent.files.transcription import OpenAITranscriber

    _, _, name = settings.agent.transcription_model.partition(":")
    given = _given(settings, "openai")
    transcriber = OpenAITranscriber(name, api_key=_key(given), base_url=given.base_url)
    try:
        yield FileReader(media, transcriber).read
    finally:
        await transcriber.aclose()

"""Models from settings, with their prices, and the transcriber of voice notes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from agent.context.tokens import estimate_tokens
from agent.media import Attachment, MediaStore
from agent.model import Model, ModelSettings, Request
from agent.models.access import ProviderAccess
from agent.models.chain import wrap_provider_model
from agent.models.context_windows import context_window_of
from agent.models.measuring import MeasuredModel, OnModelCalled, untold
from agent.models.prices import Price, price_of
from agent.models.protocols.wire import Feature
from agent.models.provider import ModelOptions, Provider, Timeouts, refused_at
from config import models as config
from config.models import ModelParameters, PriceSettings, ProviderSettings, provider_and_name
from config.presets import CLOUD_FIRST_TOKEN, LOCAL_FIRST_TOKEN, PRESETS, preset_of
from config.settings import Settings
from gateway.assembly.load_ahead import Load
from gateway.inbound.attachments import FileText, ReadFile
from gateway.lifecycle.shared_parts import SharedParts

TYPICAL_ANSWER_TOKENS = 1000

FREE = Price(0, 0)


async def open_models(
    settings: Settings,
    media: MediaStore,
    shared: SharedParts,
    stack: AsyncExitStack,
    ahead: list[Load],
    called: OnModelCalled = untold,
) -> dict[str, Model]:
    """Every model named in the settings, by name; each connects on first use. The stack closes them; one whose settings
    are the same goes on. What the default ones need can be loaded `ahead`. `called` is told of each attempt at a
    model."""
    defaults = {settings.agent.model, *(channel.model for channel in settings.channels.values())}
    models: dict[str, Model] = {}
    for name in model_names(settings):
        if name == "demo":
            from agent.models.demo import DemoModel

            models[name] = MeasuredModel(DemoModel(), name, called)
            continue
        provider = provider_of(settings, provider_and_name(name)[0])
        access = await shared.use(f"provider {provider.name}", provider, partial(_access, provider), stack)
        options, price = options_of(settings, name), price_in(settings, name)
        load = ahead if name in defaults else []
        models[name] = await shared.use(
            f"model {name}",
            (provider, options, price),
            partial(_open_model, name, options, price, media, access, load, called),
            stack,
        )
    return models


def model_names(settings: Settings) -> list[str]:
    """Every model named in the settings, once: those in use, then those that have a section."""
    agent = settings.agent
    named = [
        agent.model,
        *agent.fallback,
        agent.small_model,
        agent.vision_model,
        *(channel.model for channel in settings.channels.values()),
        *(model for named in settings.agents.values() for model in (named.model, *(named.fallback or ()))),
        *(f"{provider}:{name}" for provider, given in settings.models.items() for name in given.models),
    ]
    return list(dict.fromkeys(name for name in named if name))


def is_demo(settings: Settings) -> bool:
    """Whether the demo is the only model."""
    return model_names(settings) == ["demo"]


def providers_in_use(settings: Settings) -> list[str]:
    """The providers that have a section or a model in use, once each."""
    used = (provider_and_name(name)[0] for name in model_names(settings) if name != "demo")
    return list(dict.fromkeys([*used, *settings.models]))


@asynccontextmanager
async def _access(provider: Provider) -> AsyncIterator[ProviderAccess]:
    """What the models of the provider share."""
    access = ProviderAccess(provider)
    try:
        yield access
    finally:
        await access.aclose()


@asynccontextmanager
async def _open_model(
    name: str,
    options: ModelOptions,
    price: Price | None,
    media: MediaStore,
    access: ProviderAccess,
    ahead: list[Load],
    called: OnModelCalled,
) -> AsyncIterator[Model]:
    from agent.models.providers import ProviderModel

    opened = ProviderModel(access.provider, options, media, access)
    ahead.append(opened.prepare)
    yield wrap_provider_model(opened, name, price, called)


def provider_of(settings: Settings, name: str) -> Provider:
    """The provider of that name, by its section and by what is known of it."""
    given, preset = section_of(settings, name), preset_of(name)
    url = config.url_of(name, given)
    default_wait = LOCAL_FIRST_TOKEN if preset.is_local else CLOUD_FIRST_TOKEN
    return Provider(
        name,
        config.type_of(name, given),
        url,
        keys=tuple(key.get_secret_value() for key in given.api_key or ()),
        key_header=preset.key_header,
        headers=config.revealed(given.headers),
        query=config.revealed(given.query),
        extra_body=given.extra_body,
        timeouts=Timeouts(given.first_token_timeout or default_wait, given.silence_timeout),
        without=_refused(name, given, url),
        web_search=given.web_search,
        keeps_state=given.keeps_state,
        requests_per_minute=given.requests_per_minute or 0,
    )


def _refused(name: str, given: ProviderSettings, url: str) -> frozenset[Feature]:
    # With a base_url of its own, "openai" is only the name of the protocol.
    is_known = config.is_at_home(name, given) if name == "openai" else name in PRESETS
    return preset_of(name).without if is_known else refused_at(url)


def options_of(settings: Settings, model: str) -> ModelOptions:
    """The model's name at its provider, and its own settings."""
    provider, name = provider_and_name(model)
    given = _model_section(settings, provider, name)
    own = parameters_of(given).over(ModelSettings(parallel_tool_calls=given.parallel_tool_calls))
    return ModelOptions(name, own, vision=given.vision, tools=given.tools)


def parameters_of(section: ModelParameters) -> ModelSettings:
    return ModelSettings(section.temperature, section.max_tokens, section.reasoning, section.top_p)


def section_of(settings: Settings, provider: str) -> ProviderSettings:
    """The provider's settings, or the defaults."""
    return settings.models.get(provider) or ProviderSettings()


def _model_section(settings: Settings, provider: str, name: str) -> config.ModelSettings:
    return section_of(settings, provider).models.get(name) or config.ModelSettings()


def default_model(settings: Settings, channel: str, agent: str = "") -> str:
    """The model of conversations that have chosen none: that of the agent of this name, else the channel's, else that
    of [agent]."""
    named, own = settings.agents.get(agent), settings.channels.get(channel)
    return (named and named.model) or (own and own.model) or settings.agent.model


def default_parameters(settings: Settings, channel: str, agent: str = "") -> ModelSettings:
    """The parameters of requests, each as with `default_model`."""
    parameters = parameters_of(settings.agent)
    for own in (settings.channels.get(channel), settings.agents.get(agent)):
        parameters = parameters if own is None else parameters_of(own).over(parameters)
    return parameters


def sees_pictures(settings: Settings, model: str) -> bool:
    """Whether the settings say so, as they do of the vision model."""
    return model == settings.agent.vision_model or bool(_model_section(settings, *provider_and_name(model)).vision)


def context_window(settings: Settings, model: str) -> int:
    """The model's context window in tokens: its own setting, else the agent's, else the known one."""
    return own_context_window(settings, model) or settings.agent.context_window or context_window_of(model)


def own_context_window(settings: Settings, model: str) -> int | None:
    return _model_section(settings, *provider_and_name(model)).context_window


def price_in(settings: Settings, model: str) -> Price | None:
    """The price of the model: that of the settings, else the provider's list price, else None."""
    provider, _ = provider_and_name(model)
    given = section_of(settings, provider)
    own = {name: _price(model.price) for name, model in given.models.items() if model.price is not None}
    if preset_of(provider).is_local:
        return price_of(model, own) or FREE
    return price_of(model, own, is_listed=config.is_at_home(provider, given))


def _price(given: PriceSettings) -> Price:
    return Price(given.input, given.output, given.cache_read, given.cache_write)


def unpriced(settings: Settings) -> list[str]:
    """The models whose cost is not known, neither by a price nor from their provider."""
    return [
        model
        for model in model_names(settings)
        if model != "demo"
        and price_in(settings, model) is None
        and not preset_of(provider_and_name(model)[0]).tells_cost
    ]


def cost_of(settings: Settings, request: Request, model: str) -> float:
    """The approximate cost of the request, in dollars, with an answer of typical length; `model` is the one that it is
    for if it names none."""
    price = price_in(settings, request.model or model)
    if price is None:
        return 0.0
    written = request.settings.max_tokens or TYPICAL_ANSWER_TOKENS
    return (estimate_tokens(request) * price.input + written * price.output) / 1_000_000


@asynccontextmanager
async def open_reader(settings: Settings, media: MediaStore) -> AsyncIterator[ReadFile]:
    """Reads the text of people's files; of voice notes only with a transcription model."""
    if settings.agent.transcription_model is None:

        async def read(attachment: Attachment) -> FileText:
            # What reads documents is loaded with the first file.
            from gateway.inbound.file_text import FileReader

            return await FileReader(media).read(attachment)

        yield read
        return
    from agent.files.transcription import OpenAITranscriber
    from gateway.inbound.file_text import FileReader

    name, model = provider_and_name(settings.agent.transcription_model)
    provider = provider_of(settings, name)
    key = provider.keys[0] if provider.keys else None
    own_header = {provider.key_header: key} if key and provider.key_header else {}
    transcriber = OpenAITranscriber(
        model,
        api_key=None if own_header else key,
        base_url=provider.base_url,
        headers={**provider.headers, **own_header},
        query=provider.query,
    )
    try:
        yield FileReader(media, transcriber).read
    finally:
        await transcriber.aclose()

"""The order in which the wrappers around models are nested, so that each does its part exactly once."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence

from agent.model import Model, ModelSettings
from agent.models.continuation import ContinuingModel
from agent.models.default_settings import DefaultSettingsModel
from agent.models.fallback import CoolDowns, FallbackModel, NamedModel
from agent.models.leaving_out import LeavingOutModel
from agent.models.masking import MaskingModel
from agent.models.measuring import MeasuredModel, OnModelCalled, untold
from agent.models.metering import MeteredModel
from agent.models.outage import OutageModel
from agent.models.prices import Price
from agent.models.retry import RetryingModel
from agent.models.vision import VisionModel
from agent.models.waiting_notice import WaitingNoticeModel


def wrap_provider_model(model: Model, name: str, price: Price | None, called: OnModelCalled = untold) -> Model:
    """A provider's model with the wrappers that act on each single attempt: metering, measuring, leaving out, the
    waiting notice. `called` is told of each attempt.

    Create one per model: it remembers what the model does not accept.
    """
    measured = MeasuredModel(MeteredModel(model, name, price), name, called)
    return WaitingNoticeModel(LeavingOutModel(measured, name))


def model_chain(
    names: Sequence[str],
    models: Mapping[str, Model],
    cool_downs: CoolDowns,
    *,
    mask: Callable[[str], str],
    small: str = "",
    vision: str = "",
    see: Container[str] = (),
    settings: ModelSettings | None = None,
    outage_patience: float = 0.0,
) -> Model:
    """The model of a conversation: asks the named models in this order, and any of `models` that a request names.

    `small` answers small talk; "" leaves that to the first model. `vision` answers turns with pictures, unless the
    model that would answer is among those that `see` them; "" leaves them to that model. `settings` hold where a
    request leaves a value open; they are inside of continuation, where a limit of one answer is none of the whole.

    If no model answers, all are asked again for up to `outage_patience` seconds. Only the last model, which has no
    fallback, is retried after a timeout. Masking is inside of continuation, which sends requests of its own, so that
    every request is masked.
    """
    *before, last = names
    single_timeout = {name: RetryingModel(model, timeouts=1) for name, model in models.items()}
    named = [
        *(NamedModel(name, single_timeout[name]) for name in before),
        NamedModel(last, RetryingModel(models[last])),
    ]
    chain: Model = FallbackModel(named, cool_downs, available=single_timeout)
    if settings is not None:
        chain = DefaultSettingsModel(chain, settings)
    if outage_patience:
        chain = OutageModel(chain, outage_patience)
    model: Model = ContinuingModel(MaskingModel(chain, mask))
    if vision:
        model = VisionModel(model, vision, default=names[0], see=see)
    if not small:
        return model
    # Compiling its patterns takes longer than loading the rest of the chain.
    from agent.models.routing import RoutedModel

    return RoutedModel(model, small)

"""How the wrappers around models stand in one another: the order is what makes each do its part once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from agent.model import Model
from agent.models.continuation import ContinuingModel
from agent.models.fallback import CoolDowns, FallbackModel, NamedModel
from agent.models.masking import MaskingModel
from agent.models.metering import MeteredModel
from agent.models.prices import Price
from agent.models.retry import RetryingModel
from agent.models.waiting_notice import WaitingNoticeModel
from agent.models.without_vision import WithoutVisionModel


def wrap_provider_model(model: Model, name: str, price: Price | None) -> Model:
    """A provider's model with all that concerns each single attempt.

    To be made once for each name: it remembers whether the model can look at pictures.
    """
    return WaitingNoticeModel(WithoutVisionModel(MeteredModel(model, name, price), name))


def model_chain(
    names: Sequence[str],
    models: Mapping[str, Model],
    cool_downs: CoolDowns,
    *,
    mask: Callable[[str], str],
    small: str = "",
) -> Model:
    """What a conversation asks: the models of these names, in this order, and any of `models` that a request names.

    `small` answers small talk; "" leaves that to the first. Only the last one, behind which nobody stands by, is asked
    again after a time-out. Secrets are masked innermost of what asks anew, so that nothing goes out unmasked.
    """
    *before, last = names
    hasty = {name: RetryingModel(model, timeouts=1) for name, model in models.items()}
    named = [*(NamedModel(name, hasty[name]) for name in before), NamedModel(last, RetryingModel(models[last]))]
    model = ContinuingModel(MaskingModel(FallbackModel(named, cool_downs, available=hasty), mask))
    if not small:
        return model
    # Its patterns take longer to compile than all of the chain to load.
    from agent.models.routing import RoutedModel

    return RoutedModel(model, small)

"""The context manager from settings: ours, or one of the operator's."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from agent.context.manager import ContextError, ContextManager, ContextOptions, standard
from agent.model import Model
from agent.models.scripted import ScriptedModel
from config.settings import Settings
from gateway.assembly.models import context_window

log = logging.getLogger(__name__)

ContextManagers = Callable[[ContextOptions], ContextManager]
"""Creates the context manager of one agent."""


def context_managers(settings: Settings, mask: Callable[[str], str]) -> ContextManagers:
    """Raises `ContextError` if the operator's class cannot be loaded, or no object of it created. Blocking."""
    path = settings.agent.context
    if path is None:
        return standard
    from agent.context.own_manager import OwnManagers

    own = OwnManagers(path, mask)
    own.create(context_options(settings, settings.agent.model, ScriptedModel()))
    return partial(_create, own.create)


def context_options(settings: Settings, default_model: str, summariser: Model) -> ContextOptions:
    given = settings.agent
    return ContextOptions(
        context_window(settings, default_model),
        partial(context_window, settings),
        summariser,
        reserve=given.context_reserve,
        full_at=given.context_full_at,
        keep=given.context_keep,
        auto=given.auto_compact,
    )


def _create(own: ContextManagers, options: ContextOptions) -> ContextManager:
    """The class was tried at the start; if it fails for another agent's options, that agent has ours."""
    try:
        return own(options)
    except ContextError as error:
        log.error("%s. The built-in one is used", error)
        return standard(options)

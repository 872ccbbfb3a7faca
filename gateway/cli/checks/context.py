"""The check of the operator's context manager: it is loaded as `interject run` loads it."""

from __future__ import annotations

from agent.context.manager import ContextError
from agent.masking import Mask
from config.settings import Settings, every_secret
from gateway.assembly.context import context_managers
from gateway.cli.checks.result import CheckResult


def check_context(settings: Settings) -> list[CheckResult]:
    if settings.agent.context is None:
        return []
    try:
        context_managers(settings, Mask(secret.get_secret_value() for secret in every_secret(settings)))
    except ContextError as error:
        return [CheckResult("context manager", False, str(error))]
    return [CheckResult("context manager", True, "can be used")]

"""Checks of the operator's own tools: they are loaded as `interject run` loads them."""

from __future__ import annotations

from agent.masking import Mask
from config.load import Configuration
from config.settings import every_secret
from gateway.assembly.custom_tools import OwnTools
from gateway.cli.checks.result import CheckResult


def check_own_tools(configuration: Configuration) -> list[CheckResult]:
    own = OwnTools(configuration, Mask(secret.get_secret_value() for secret in every_secret(configuration.settings)))
    own.load()
    return [
        *(CheckResult(f"tool {each.tool.name}", True, f"can be used, from {each.origin}") for each in own.listed),
        *(CheckResult(f"tool {fault.name}", False, str(fault)) for fault in own.faults),
    ]

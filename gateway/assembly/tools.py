"""The tools of the agent, with the operator's rules: built-in ones, those that need settings, and own ones."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.tool import Tool
from agent.tools import load_tool
from config.models import is_at_home, provider_and_name
from config.settings import Settings
from config.tools import CustomToolSettings
from gateway.assembly.models import is_demo, provider_of, section_of
from gateway.assembly.shell_policy import ShellPolicy

if TYPE_CHECKING:
    # Tools that are not configured are not loaded.
    from agent.models.image_prices import ImagePrice
    from agent.models.image_provider import ProviderImageModel

GEMINI_COMPATIBLE = "/openai"
"""Ends the address where Gemini speaks OpenAI's chat protocol; its own is above it."""

TYPICAL_TOKENS = 1_056
"""Of a picture whose price is given by the token."""


NEED_SETTINGS = frozenset({"shell", "run_python", "generate_image", "web_search"})
"""The tools that `configured_tools` makes."""


def configured_tools(settings: Settings, shell_policy: ShellPolicy, stack: AsyncExitStack) -> Mapping[str, Tool]:
    """Those of these tools that are enabled and configured, by name. The stack closes them."""
    made = (
        shell_tool(settings, shell_policy),
        python_tool(settings, shell_policy),
        image_tool(settings, stack),
        search_tool(settings),
    )
    return {tool.name: tool for tool in made if tool is not None}


def built_in_tools(settings: Settings, configured: Mapping[str, Tool]) -> tuple[Tool, ...]:
    """The built-in tools that are enabled, by the operator's rules. `configured` are those of `configured_tools`."""
    names = [name for name in settings.tools.enabled if name in configured or name not in NEED_SETTINGS]
    found = (configured[name] if name in configured else load_tool(name) for name in dict.fromkeys(names))
    return tuple(with_rules(settings, tool) for tool in found)


def with_rules(settings: Settings, tool: Tool) -> Tool:
    """The tool by the rules of its section."""
    rules = settings.tools.rules(tool.name)
    final = rules.final if isinstance(rules, CustomToolSettings) else None
    return replace(
        tool,
        approval=rules.approval or tool.approval,
        on_steer=rules.on_steer or tool.on_steer,
        timeout=rules.timeout or tool.timeout,
        final=tool.final if final is None else final,
    )


def shell_tool(settings: Settings, shell_policy: ShellPolicy) -> Tool | None:
    """The shell; where it may be offered, the policy says."""
    if "shell" not in settings.tools.enabled:
        return None
    from agent.tools.shell import shell_with

    return shell_with(shell_policy.policy)


def image_tool(settings: Settings, stack: AsyncExitStack) -> Tool | None:
    """The tool that draws pictures, None if no image model is set. It connects on first use; the stack closes it.
    The demo draws without one."""
    model = settings.tools.generate_image.model
    if "generate_image" not in settings.tools.enabled:
        return None
    if model is None:
        return _demo_image_tool() if is_demo(settings) else None
    from agent.tools.generate_image import generate_image_with

    opened = _image_model(settings, model)
    stack.push_async_callback(opened.aclose)
    return generate_image_with(opened)


def _demo_image_tool() -> Tool:
    """What it draws stays on this machine and costs nothing, as a chart does."""
    from agent.models.demo_image import DemoImageModel
    from agent.tools.generate_image import generate_image_with

    return replace(generate_image_with(DemoImageModel()), effect="read", repeatable=True, compensation="")


def search_tool(settings: Settings) -> Tool | None:
    """The tool that searches the web, None if no service is set."""
    given = settings.tools.web_search
    if given.provider is None or "web_search" not in settings.tools.enabled:
        return None
    from agent.tools.web_search import SearchService, web_search_with

    key = given.api_key.get_secret_value() if given.api_key is not None else ""
    return web_search_with(SearchService(given.provider, key, given.url or ""))


def python_tool(settings: Settings, shell_policy: ShellPolicy) -> Tool | None:
    """The tool that runs Python code as the shell runs commands; where it may be offered, the policy says."""
    if "run_python" not in settings.tools.enabled:
        return None
    from agent.tools.run_python import run_python_with

    return run_python_with(shell_policy.policy)


def _image_model(settings: Settings, model: str) -> ProviderImageModel:
    from agent.models.image_protocols import GeminiImages, OpenAIImages
    from agent.models.image_provider import ProviderImageModel

    given = settings.tools.generate_image
    name, bare = provider_and_name(model)
    provider = provider_of(settings, name)
    protocol = given.protocol or ("gemini" if name == "google" else "openai")
    if protocol == "gemini":
        provider = replace(provider, base_url=provider.base_url.rstrip("/").removesuffix(GEMINI_COMPATIBLE))
    return ProviderImageModel(
        provider,
        bare,
        GeminiImages() if protocol == "gemini" else OpenAIImages(),
        price=_price(settings, model),
        quality=given.quality or "",
    )


def _price(settings: Settings, model: str) -> ImagePrice | None:
    """Of one picture, of tokens by the settings, or the provider's list price."""
    from agent.models.image_prices import IMAGE_PRICES, ImagePrice

    given = settings.tools.generate_image.price
    if given is not None:
        return ImagePrice(picture=given)
    name, bare = provider_and_name(model)
    section = section_of(settings, name)
    own = section.models.get(bare)
    if own is not None and own.price is not None:
        return ImagePrice(own.price.input, own.price.input, own.price.output, TYPICAL_TOKENS)
    return IMAGE_PRICES.get(model) if is_at_home(name, section) else None

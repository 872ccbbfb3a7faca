"""The operator's own tools from settings, and from the folder `tools` beside them. Without any, nothing is imported."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from agent.agent import unmasked
from agent.loop.offered_tools import find_tools
from agent.skills.tool import NAME as SKILL
from agent.tool import Tool
from config.load import Configuration
from config.places import tools_folder
from config.tools import TOOLS
from gateway.assembly.models import is_demo
from gateway.outbound.wording import escaped

if TYPE_CHECKING:
    from agent.custom_tools import CustomTool, CustomTools, Loading, ToolFault

log = logging.getLogger(__name__)

BUILT_IN = frozenset({*TOOLS, SKILL, find_tools.name})
"""Names that no other tools get."""

ROOT = Path(__file__).parents[2]
EXAMPLE = "word_count"
"""The example of a tool that the demo calls, in `examples/tools`."""


class OwnTools:
    """A toolset: the tools as they were when they were loaded last."""

    def __init__(self, configuration: Configuration, mask: Callable[[str], str] = unmasked) -> None:
        """`mask` removes known secrets from what is said of a fault."""
        self._configuration = configuration
        self._mask = mask
        self._tools: CustomTools | None = None

    def __iter__(self) -> Iterator[Tool]:
        if self._tools is None and _demo_example(self._configuration) is not None:
            self.load()
        return iter(self._tools or ())

    @property
    def listed(self) -> Sequence[CustomTool]:
        return () if self._tools is None else self._tools.loaded.tools

    @property
    def faults(self) -> Sequence[ToolFault]:
        return () if self._tools is None else self._tools.loaded.faults

    def after(self, configuration: Configuration) -> OwnTools:
        """Those of a newer configuration, to be loaded. What cannot be loaded there stays as it is here."""
        tools = OwnTools(configuration, self._mask)
        if self._tools is not None:
            tools._tools = _custom_tools(configuration, self._mask)
            tools._tools.after(self._tools)
        return tools

    def use(self, newer: OwnTools) -> None:
        """From now on these are the tools, also in running turns."""
        self._configuration, self._tools = newer._configuration, newer._tools

    def load(self) -> Loading | None:
        """Loads them anew. Blocking: it runs the operator's code. None if there are none, and were none."""
        if self._tools is None and not _exist(self._configuration) and _demo_example(self._configuration) is None:
            return None
        if self._tools is None:
            self._tools = _custom_tools(self._configuration, self._mask)
        return self._tools.load()

    def log_faults(self) -> None:
        for fault in self.faults:
            log.error("tool %s: %s", fault.name, fault)

    @property
    def told(self) -> str:
        """What there is now, as Markdown; "" if there are none, and were none."""
        return "" if self._tools is None else _told(self._tools.loaded)

    def problems(self) -> dict[str, str]:
        """What is wrong with them now, by part, for `/status`."""
        return {f"Tool {escaped(fault.name)}": _as_code(str(fault)) for fault in self.faults}


def own_tools(configuration: Configuration, mask: Callable[[str], str] = unmasked) -> OwnTools:
    """The tools, loaded; the log names those that cannot be used. The demo's example is loaded with its first turn.
    Blocking."""
    tools = OwnTools(configuration, mask)
    if _exist(configuration):
        tools.load()
        tools.log_faults()
    return tools


def own_tool_files(configuration: Configuration) -> Iterator[Path]:
    """The files of the tools, which are the operator's."""
    for own in configuration.settings.tools.custom.values():
        module = own.path.rpartition(":")[0]
        if module.endswith(".py"):
            yield Path(module)
    if configuration.file is not None and _has_python(folder := tools_folder(configuration.file)):
        from agent.custom_tools import tool_files

        yield from tool_files(folder)


def _exist(configuration: Configuration) -> bool:
    file = configuration.file
    return bool(configuration.settings.tools.custom) or (file is not None and _has_python(tools_folder(file)))


def _demo_example(configuration: Configuration) -> Path | None:
    """The example that the demo has where there is no settings file. An installed package has no examples."""
    if configuration.file is not None or not is_demo(configuration.settings):
        return None
    example = ROOT / "examples" / "tools" / f"{EXAMPLE}.py"
    return example if (ROOT / "pyproject.toml").is_file() and example.is_file() else None


def _has_python(folder: Path) -> bool:
    return folder.is_dir() and any(folder.glob("*.py"))


def _custom_tools(configuration: Configuration, mask: Callable[[str], str]) -> CustomTools:
    from agent.custom_tools import CustomTools, ToolSource

    file, example = configuration.file, _demo_example(configuration)
    return CustomTools(
        [
            *(
                ToolSource(name, own.path, {key: _plain(value) for key, value in own.options.items()})
                for name, own in configuration.settings.tools.custom.items()
            ),
            *([] if example is None else [ToolSource(EXAMPLE, f"{example}:{EXAMPLE}", {})]),
        ],
        None if file is None else tools_folder(file),
        base=None if file is None else file.absolute().parent,
        reserved=BUILT_IN,
        mask=mask,
    )


def _told(loaded: Loading) -> str:
    names = ", ".join(f"`{each.tool.name}`" for each in loaded.tools)
    lines = [f"Tools loaded: {names or 'none'}."]
    if loaded.removed:
        lines.append(f"Removed: {', '.join(f'`{name}`' for name in loaded.removed)}.")
    lines += [f"- ⚠️ broken: {escaped(fault.name)}: {_as_code(str(fault))}" for fault in loaded.faults]
    return "\n".join(lines)


def _as_code(text: str) -> str:
    """The line as Markdown that displays it."""
    return "`" + text.replace("`", "'") + "`"


def _plain(value: Any) -> Any:
    """The value as the tool is given it: secrets are text, if the tool's settings do not say otherwise."""
    match value:
        case SecretStr():
            return value.get_secret_value()
        case dict():
            return {name: _plain(inner) for name, inner in value.items()}
        case list():
            return [_plain(inner) for inner in value]
        case _:
            return value

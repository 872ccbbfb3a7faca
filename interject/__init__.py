"""What extends Interject: tools, hooks, models and agents of your own import from here, and from nowhere else.

    from interject import ToolContext, read_workspace_file, tool

    @tool(effect="read")
    def word_count(context: ToolContext, path: str) -> str:
        \"\"\"Counts the words of a text file in the workspace.\"\"\"
        return str(len(read_workspace_file(context, path).split()))

The names below are the public interface; everything else may change without notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interject.public import *  # noqa: F403  # its __all__ is the list
else:

    def __getattr__(name: str) -> object:
        """Imports the public names on first use (PEP 562): the command line does not need them."""
        from importlib import import_module

        from interject.collisions import require_own_packages

        require_own_packages()
        return getattr(import_module("interject.public"), name)

    def __dir__() -> list[str]:
        """The public names."""
        return list(__getattr__("__all__"))

"""The result of a tool call: as the tool returns it, and as somebody supplies it in the tool's place."""

from __future__ import annotations

from dataclasses import dataclass

from agent.log import SuggestedReply
from agent.media import Attachment, NewFile


@dataclass(frozen=True, slots=True)
class ToolResult:
    """`text` for the model, `attachments` and `for_user` (Markdown) for the person, `images` shown to the model.

    `final`: this is the turn's answer, and the model is not called again. `silent`: people are not shown the call.
    `foreign` are the sources of foreign text in the result, such as the address of a page. `failed`: the call has this
    result, and is shown as failed. `suggestions` are buttons under the attachments. `how` is one line of plain text
    that says how the result was made; it is shown above the buttons and by `/how`.
    """

    text: str
    attachments: tuple[Attachment, ...] = ()
    images: tuple[Attachment, ...] = ()
    caption: str = ""
    for_user: str = ""
    final: bool = False
    silent: bool = False
    foreign: tuple[str, ...] = ()
    failed: bool = False
    suggestions: tuple[SuggestedReply, ...] = ()
    how: str = ""


MAX_SUPPLIED_FILES = 20
"""Files and images of one supplied result together."""


@dataclass(frozen=True, slots=True)
class SuppliedResult:
    """The result of a call whose tool did not run here: a hook's, or that of a program over the HTTP API.

    `text` for the model, `files` with one `caption` and `for_user` (Markdown) for the person, `images` shown to the
    model; the names and bytes of `files` and `images` are in place of stored attachments. `final`, `silent` and
    `failed` as in `ToolResult`.
    """

    text: str = ""
    files: tuple[NewFile, ...] = ()
    images: tuple[NewFile, ...] = ()
    caption: str = ""
    for_user: str = ""
    final: bool = False
    silent: bool = False
    failed: bool = False

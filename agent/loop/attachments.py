"""The files of a conversation, gathered while a turn's log grows: what its tools may look at and find as files."""

from __future__ import annotations

from collections.abc import Sequence

from agent.log import Entry
from agent.log_state import attachments, received
from agent.media import Attachment
from agent.tools.output_limits import full_results
from agent.transcript import Exchange, RenderedTurn


class ConversationFiles:
    """`attachments` are the files that people sent and tools made, oldest first; `workspace_files` are those that lie in the
    workspace: what people sent, and all of what was too long for the model.
    """

    def __init__(self, past: Sequence[RenderedTurn]) -> None:
        self.attachments: list[Attachment] = []
        self.workspace_files: list[Attachment] = []
        self._past = past
        self._count = 0

    def gather(self, entries: Sequence[Entry]) -> None:
        """Looks at what is new; `entries` is the turn's log, never shorter than it was."""
        if self._past:
            self._add([exchange for turn in self._past for exchange in turn.exchanges])
            self._past = ()
        self._add(entries[self._count :])
        self._count = len(entries)

    def _add(self, items: Sequence[Entry | Exchange]) -> None:
        self.attachments += attachments(items)
        self.workspace_files += [*received(items), *full_results(items)]

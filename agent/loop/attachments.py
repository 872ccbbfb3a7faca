"""The files of a conversation, collected while a turn's log grows."""

from __future__ import annotations

from collections.abc import Sequence

from agent.log import Entry
from agent.log_state import attachments, received_files
from agent.media import Attachment
from agent.tools.output_limits import full_results
from agent.transcript import Exchange, RenderedTurn


class ConversationFiles:
    """`attachments` are the files that people sent and tools made, oldest first. `workspace_files` are those that are
    copied to the workspace: files that people sent, and tool outputs that were too long for the model.
    """

    def __init__(self, past: Sequence[RenderedTurn]) -> None:
        self.attachments: list[Attachment] = []
        self.workspace_files: list[Attachment] = []
        self._past = past
        self._count = 0

    def update(self, entries: Sequence[Entry]) -> None:
        """Adds the new entries; `entries` is the turn's log, never shorter than before."""
        if self._past:
            self._add([exchange for turn in self._past for exchange in turn.exchanges])
            self._past = ()
        self._add(entries[self._count :])
        self._count = len(entries)

    def _add(self, items: Sequence[Entry | Exchange]) -> None:
        self.attachments += attachments(items)
        self.workspace_files += [*received_files(items), *full_results(items)]

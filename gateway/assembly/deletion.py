"""Deletion of data by a process that runs no gateway."""

from __future__ import annotations

from config.load import Configuration
from gateway.assembly.mcp import ACCOUNTS, accounts
from gateway.assembly.media import media_blobs
from gateway.assembly.workspaces import workspace_sync, workspaces_of
from gateway.media import Media
from gateway.store import Store
from gateway.turns.deletion import DataDeletion


def deletion_without_gateway(configuration: Configuration, store: Store) -> DataDeletion:
    """Deletes where the settings say that data is."""

    async def forget_person(person: str) -> None:
        if store.is_shared or (configuration.home / ACCOUNTS).exists():
            from agent.mcp.personal import forget_accounts

            await forget_accounts(accounts(configuration, store), person)

    media = Media(media_blobs(configuration), store)
    return DataDeletion(
        store,
        media.remove,
        workspaces_of(configuration, store, workspace_sync(configuration, store, media)).remove,
        forget_person=forget_person,
    )

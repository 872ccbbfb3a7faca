"""What the house keeps: sessions, inbox, turns and their logs, outbox and media, in one database."""

from gateway.store.store import Store, open_store

__all__ = ["Store", "open_store"]

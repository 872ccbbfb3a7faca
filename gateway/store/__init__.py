"""The database: sessions, inbox, turns and their logs, outbox and media.

- `store.py`: `Store`, the table of all operations, and `open_store`. Start here.
- Operations, plain functions on a connection, by subject: messages (`arrivals`, `edits`, `fetching`, `inbox`), turns
  (`turns`, `command_turns`, `undo`, `logs`), decisions (`decisions`, `questions`, `deadlines`, `external_results`),
  `background`, `sessions`, `costs`, `outbox`, `pairing`, `cursors`, `media_cleanup`; queries for screens in `reading`.
- `records.py`: what operations take and return. `schema.py`: the tables; `migrations/`: their revisions.
- `engine.py`: the protocol of a database engine; `sqlite.py`, `sqlite_file.py`, `writer.py`: the SQLite one.
- `offline.py`: operations of the command line on the database of a running gateway.
"""

from gateway.store.store import Store, open_store

__all__ = ["Store", "open_store"]

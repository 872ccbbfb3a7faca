"""What several processes on one database need to share, and do not by default."""

from __future__ import annotations

from collections.abc import Iterator

from config.load import Configuration

SHORT_LEASE = 3.0
LONG_LEASE = 120.0
"""Seconds."""


def not_shared(configuration: Configuration) -> Iterator[str]:
    """What does not fit to a database on a server, and what to do, a line each. Nothing for a file.

    These are no errors: all processes may run on one machine, or there may be one only."""
    settings, home = configuration.settings, configuration.home
    if settings.store.file is not None:
        return
    folder = settings.media.folder
    if folder is not None and folder.is_relative_to(home):
        yield (
            f"[media] is the folder {folder} of this process: workers on other machines do not find the files and the "
            'workspaces of their conversations there. Set [media] url = "s3://BUCKET/PREFIX", or path to a folder that '
            "all of them share"
        )
    lease = settings.store.lease
    if lease < SHORT_LEASE:
        yield (
            f"[store] lease is {lease:g} s: a worker that is busy, or whose database is slow for a moment, is taken "
            "for dead. Set 15, or at least 5"
        )
    if lease > LONG_LEASE:
        yield (
            f"[store] lease is {lease:g} s: after a crash of a machine, people wait so long until another worker goes "
            "on. Set 15, or at most 60"
        )

"""The media store: files by the hash of their bytes, and their metadata in the database."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from agent.media import Attachment
from gateway.media.blobs import Blobs
from gateway.media.folder import FolderBlobs
from gateway.media.kinds import MAX_PIXELS, clean_name
from gateway.media.media import MAX_BYTES, Media, MediaTable, read_from

__all__ = ["MAX_BYTES", "MAX_PIXELS", "Blobs", "DiskMedia", "FolderBlobs", "Media", "clean_name", "reader"]


class DiskMedia(Media):
    """The media store in a folder."""

    def __init__(self, path: Path, table: MediaTable, max_bytes: int = MAX_BYTES) -> None:
        super().__init__(FolderBlobs(path), table, max_bytes)


def reader(path: Path) -> Callable[[Attachment], Awaitable[bytes]]:
    """Reads files of the store in this folder. Its result raises as `Media.read` does."""
    return read_from(FolderBlobs(path))

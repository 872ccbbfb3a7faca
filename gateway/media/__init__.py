"""The media store: files by the hash of their bytes, in a folder or in a bucket, and their metadata in the database."""

from gateway.media.blobs import Blobs
from gateway.media.errors import DatabaseUnavailable
from gateway.media.folder import FolderBlobs
from gateway.media.kinds import clean_name
from gateway.media.media import Media, read_from

__all__ = ["Blobs", "DatabaseUnavailable", "FolderBlobs", "Media", "clean_name", "read_from"]

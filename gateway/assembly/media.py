"""Where the settings say that media are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import SecretStr

from config.load import Configuration
from config.media import MediaSettings
from gateway.assembly.signals import ExtraMissing
from gateway.media import Blobs, FolderBlobs
from gateway.media.blobs import missing_of
from gateway.private_files import private_folder

COPIES = Path("cache", "media")
"""Within the data directory: copies of what a bucket has."""

LOOKED_FOR = 10
"""Files that are looked for to see whether the place is that of the database."""

JUST_NOW = timedelta(minutes=1)
"""A file is recorded before its bytes are stored."""


def media_blobs(configuration: Configuration) -> Blobs:
    """The place of the media; a folder is made if it is missing. Raises `ExtraMissing` and `OSError`."""
    return blobs_of(configuration.settings.media, configuration.home / COPIES)


def blobs_of(media: MediaSettings, copies: Path) -> Blobs:
    """As `media_blobs`; `copies` is the folder for copies of what a bucket has."""
    if media.folder is not None:
        private_folder(media.folder)
        return FolderBlobs(media.folder)
    from gateway.media.bucket import Bucket, S3Blobs
    from gateway.media.local_copies import LocalCopies

    private_folder(copies)
    name, prefix = media.bucket
    s3 = media.s3
    bucket = Bucket(
        name,
        prefix,
        endpoint=s3.endpoint,
        region=s3.region,
        access_key_id=s3.access_key_id,
        secret_access_key=_value(s3.secret_access_key),
        session_token=_value(s3.session_token),
        virtual_hosted_style=s3.virtual_hosted_style,
    )
    try:
        return S3Blobs(bucket, LocalCopies(copies, media.cache_bytes))
    except ImportError as error:
        raise ExtraMissing(
            f"[media] url needs the extra s3, which is not installed ({error}). Install it: pip install 'interject[s3]'"
        ) from error


async def missing_media(
    media: MediaSettings, blobs: Blobs, newest: Callable[[datetime, int], Awaitable[Collection[str]]]
) -> str | None:
    """What to say if the place does not have the newest files of the database, because other workers keep them
    elsewhere, or they were left behind in a move. None: it has them. `newest` gives the hashes of so many that were
    stored before then. Raises `OSError` and `StoreError`."""
    hashes = await newest(datetime.now(UTC) - JUST_NOW, LOOKED_FOR)
    missing = await missing_of(blobs, hashes)
    if not missing:
        return None
    return (
        f"{place_of(media)} lacks {len(missing)} of the {len(hashes)} newest files of the database: other workers keep "
        "theirs elsewhere, or they were not moved here. Give [media] the same place on all workers"
    )


def place_of(media: MediaSettings) -> str:
    """What people call it."""
    return str(media.url if media.folder is None else media.folder)


def _value(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()

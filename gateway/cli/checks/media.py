"""Check of the place of media: a test file is written, read and deleted there."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import datetime
from functools import partial
from pathlib import Path
from secrets import token_bytes
from tempfile import TemporaryDirectory

from agent.media import MediaError
from config.load import Configuration
from gateway.assembly.media import blobs_of, missing_media, place_of
from gateway.assembly.signals import ExtraMissing
from gateway.cli.checks.result import TIMEOUT, CheckResult
from gateway.media import Blobs
from gateway.media.blobs import BlobMissing
from gateway.media.incoming import incoming_file
from gateway.store import offline
from gateway.store.errors import StoreError

PART = "media"
SHARED = "shared media"


async def check_media(configuration: Configuration) -> CheckResult:
    media = configuration.settings.media
    with TemporaryDirectory(prefix="interject-media-") as copies:
        try:
            # Without copies of what was written: what is read comes from the place.
            writer, reader = (blobs_of(media, Path(copies, name)) for name in ("written", "read"))
            async with asyncio.timeout(TIMEOUT):
                await _try(writer, reader)
                missing = await missing_media(media, reader, partial(_newest, configuration.settings.store.url))
        except TimeoutError:
            return CheckResult(PART, False, f"{place_of(media)} does not answer within {TIMEOUT:g} seconds")
        except BlobMissing:
            return CheckResult(PART, False, f"{place_of(media)} does not have what was written there a moment ago")
        except (MediaError, ExtraMissing, OSError) as error:
            return CheckResult(PART, False, _told(error))
    if missing is not None:
        return CheckResult(SHARED, False, missing)
    return CheckResult(PART, True, f"{place_of(media)}: a test file was written, read and deleted")


async def _newest(url: str, before: datetime, most: int) -> Collection[str]:
    """None where there is no database yet, or none that can be read: another check says so."""
    try:
        return await asyncio.to_thread(offline.newest_media, url, before, most)
    except StoreError:
        return ()


async def _try(writer: Blobs, reader: Blobs) -> None:
    async with incoming_file(writer.incoming, "a test file") as file:
        await file.write(token_bytes(64))
        await writer.put(file.hash, file)
    try:
        await reader.read(file.hash)
        # Daily cleaning lists them.
        async for _ in reader.stored(file.hash[:2]):
            break
    finally:
        await reader.delete([file.hash])


def _told(error: Exception) -> str:
    return f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.strerror else str(error)

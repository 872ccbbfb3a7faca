"""`interject media copy`: moves files between folders and buckets, also beside a running gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import ValidationError

from agent.media import MediaError
from config.load import Configuration
from config.media import FILE, S3, MediaSettings, with_aws_variables
from gateway.assembly.media import blobs_of, place_of
from gateway.assembly.signals import ExtraMissing
from gateway.cli.output import fail, json_line, size, write_lines
from gateway.cli.progress import Progress
from gateway.media import Blobs
from gateway.media.copying import Copied, copy_media

COPIES = 100_000_000
"""Bytes of a bucket that are kept as local copies meanwhile."""


class NoPlace(Exception):
    """What is given is no place for media. The message says why."""


def copy(configuration: Configuration, source: str, target: str, *, environ: Mapping[str, str], as_json: bool) -> int:
    """Each place is a folder's path, or a URL as in [media] url. Returns the exit code: 1 when not all is copied."""
    progress = Progress()
    try:
        given = [_settings(each, configuration, environ) for each in (source, target)]
        if place_of(given[0]) == place_of(given[1]):
            raise NoPlace("both are the same place")
        if (folder := given[0].folder) is not None and not folder.is_dir():
            raise NoPlace(f"there is no folder {folder}")
        with TemporaryDirectory(prefix="interject-media-") as copies:
            blobs = [blobs_of(each, Path(copies, str(number))) for number, each in enumerate(given)]
            copied = asyncio.run(_copied(blobs[0], blobs[1], progress))
    except (NoPlace, MediaError, ExtraMissing, OSError) as error:
        progress.end()
        return fail(configuration, error)
    progress.end()
    if as_json:
        write_lines([json_line(asdict(copied))])
    else:
        write_lines(_lines(copied, place_of(given[1])))
    return 1 if copied.damaged else 0


async def _copied(source: Blobs, target: Blobs, progress: Progress) -> Copied:
    return await copy_media(source, target, lambda copied: progress.show(_what(copied)))


def _settings(place: str, configuration: Configuration, environ: Mapping[str, str]) -> MediaSettings:
    url = place if place.startswith((S3, FILE)) else Path(place).expanduser().absolute().as_uri()
    s3 = configuration.settings.media.s3.model_dump(exclude_none=True)
    tree = with_aws_variables({"media": {"url": url, "s3": s3, "cache_bytes": COPIES}}, environ)
    try:
        return MediaSettings.model_validate(tree["media"])
    except ValidationError as error:
        raise NoPlace(f"{place}: {error.errors()[0]['msg']}") from None


def _what(copied: Copied) -> str:
    return f"copied {copied.files:,} files ({size(copied.size)}), {copied.present:,} were there already"


def _lines(copied: Copied, target: str) -> list[str]:
    damaged = [f"Not copied, since its bytes are not those of its name: {hash}" for hash in copied.damaged]
    what = _what(copied).capitalize()
    return [*damaged, f"{what}, each checked by its hash.", f"The files stay where they were. Now in [media]: {target}"]

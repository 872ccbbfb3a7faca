"""Media in a bucket: S3 of AWS, or any service that is compatible with it. Needs the extra s3."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.media.blobs import BlobMissing, StoredBlob, hash_of, name_of
from gateway.media.folder import delete_unfinished
from gateway.media.incoming import IncomingFile
from gateway.media.local_copies import LocalCopies

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Store

REGION = "us-east-1"
"""AWS's own default; other services take it as theirs."""

CONNECT_TIMEOUT = "5s"
READ_TIMEOUT = "20s"
"""Without a byte."""

REQUEST_TIMEOUT = "5m"
"""For one request, of up to `PART` bytes or one file."""

RETRIES = 3
RETRY_TIMEOUT = timedelta(seconds=20)

PART = 8 << 20
PARTS_AT_ONCE = 2
"""Larger files are sent in parts of so many bytes, of which so many are in memory."""

CHUNK = 1 << 20
ROLES_ADDRESS = "169.254.169.254"
"""Where a machine of AWS asks for the key of its role; the library asks there if it has no key."""

SHOWN = 200
"""Characters of an answer that is not understood."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where the bucket is, and the key to it. What is None is found as the AWS tools find it: the region is
    us-east-1, the key that of the machine's role."""

    name: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    virtual_hosted_style: bool = False


class BucketError(OSError):
    """The bucket does not do its part. The message says why, and what to do."""


class S3Blobs:
    """Implements `Blobs`. The object of hash `abcdef…` is `prefix/ab/cdef…`. What is read is downloaded once, into
    `copies`."""

    def __init__(self, bucket: Bucket, copies: LocalCopies) -> None:
        """Loads the library. Raises `ImportError` without it."""
        self._bucket = bucket
        self._store = _open(bucket)
        self._copies = copies
        # What is stored is kept as a copy.
        self.incoming = copies.folder

    async def put(self, hash: str, file: IncomingFile) -> None:
        import obstore

        with self._errors():
            await obstore.put_async(
                self._store, name_of(hash), file.path, chunk_size=PART, max_concurrency=PARTS_AT_ONCE
            )
        await self._copies.add(hash, file)

    async def read(self, hash: str) -> bytes:
        async with self.local_file(hash) as path:
            return await asyncio.to_thread(path.read_bytes)

    def local_file(self, hash: str) -> AbstractAsyncContextManager[Path]:
        return self._copies.hold(hash, partial(self._download, hash))

    async def delete(self, hashes: Collection[str]) -> None:
        ended = await asyncio.gather(*map(self._delete, hashes), return_exceptions=True)
        for error in filter(None, ended):
            raise error

    async def stored(self, first: str = "") -> AsyncIterator[StoredBlob]:
        import obstore

        with self._errors():
            async for page in obstore.list(self._store, prefix=first or None):
                for each in page:
                    if (hash := hash_of(each["path"])) is not None:
                        yield StoredBlob(hash, each["size"], each["last_modified"])

    async def delete_leftovers(self, before: datetime) -> int:
        """Of this machine. Parts of a file in the bucket are the service's to delete (a rule of its life cycle)."""
        unfinished = await asyncio.to_thread(delete_unfinished, self.incoming, before)
        return unfinished + await self._copies.delete_unused(before)

    async def _download(self, hash: str, file: IncomingFile) -> None:
        import obstore

        with self._errors():
            found = await obstore.get_async(self._store, name_of(hash))
            await file.receive(found.stream(min_chunk_size=CHUNK), sys.maxsize)

    async def _delete(self, hash: str) -> None:
        import obstore

        with self._errors():
            await obstore.delete_async(self._store, name_of(hash))
        await self._copies.delete(hash)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raises `BlobMissing`, or `BucketError` with words for people."""
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise BucketError(explained(str(error), self._bucket)) from error
            raise BlobMissing from error
        except BaseError as error:
            raise BucketError(explained(str(error), self._bucket)) from error


def _open(bucket: Bucket) -> S3Store:
    from obstore.store import S3Store

    endpoint = {"endpoint": bucket.endpoint} if bucket.endpoint is not None else {}
    config: S3Config = {
        "region": bucket.region or REGION,
        "virtual_hosted_style_request": bucket.virtual_hosted_style,
        # Not every service has a request for several.
        "disable_bulk_delete": True,
        **endpoint,  # type: ignore[typeddict-item]
    }
    if bucket.access_key_id is not None and bucket.secret_access_key is not None:
        config["access_key_id"] = bucket.access_key_id
        config["secret_access_key"] = bucket.secret_access_key
    if bucket.session_token is not None:
        config["session_token"] = bucket.session_token
    return S3Store(
        bucket.name,
        prefix=bucket.prefix or None,
        config=config,
        client_options={
            "allow_http": (bucket.endpoint or "").startswith("http://"),
            "connect_timeout": CONNECT_TIMEOUT,
            "read_timeout": READ_TIMEOUT,
            "timeout": REQUEST_TIMEOUT,
        },
        retry_config={"max_retries": RETRIES, "retry_timeout": RETRY_TIMEOUT},
    )


KEY_CODES = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "TokenRefreshRequired"}
)
REGION_CODES = frozenset({"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"})


def explained(error: str, bucket: Bucket) -> str:
    """What the error of the library means, and what to do. The codes of answers are those of
    https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html."""
    place = bucket.endpoint or f"AWS ({bucket.region or REGION})"
    code = found[1] if (found := re.search(r"<Code>(\w+)</Code>", error)) else ""
    status = found[1] if (found := re.search(r"status code: (\d{3})", error)) else ""
    if ROLES_ADDRESS in error:
        return (
            "no access key was found: set access_key_id and secret_access_key in [media.s3], or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY"
        )
    if code == "NoSuchBucket":
        return f"{place} has no bucket {bucket.name}: create it, or correct [media] url"
    if code in KEY_CODES:
        return f"{place} does not accept the access key ({code}): correct it in [media.s3] or in the AWS_ variables"
    if code in REGION_CODES or status == "301":
        return _elsewhere(error, bucket)
    if code == "RequestTimeTooSkewed":
        return f"the clock of this machine differs from that of {place}: set it"
    if status in ("401", "403"):
        return (
            f"{place} denies access to the bucket {bucket.name} ({code or status}): the key must be allowed to list, "
            "read, write and delete there (s3:ListBucket, s3:GetObject, s3:PutObject, s3:DeleteObject)"
        )
    return _unanswered(error, place) or f"{place} answered: {error.partition(chr(10))[0][-SHOWN:]}"


def _elsewhere(error: str, bucket: Bucket) -> str:
    found = re.search(r"<Region>([\w-]+)</Region>|expecting '([\w-]+)'|\.s3[.-]([\w-]+)\.amazonaws", error)
    region = next(filter(None, found.groups()), "") if found else ""
    where = f"in the region {region}" if region else f"not in the region {bucket.region or REGION}"
    return f"the bucket {bucket.name} is {where}: set region in [media.s3]"


def _unanswered(error: str, place: str) -> str | None:
    if "HTTP error" not in error:
        return None
    if "dns error" in error:
        return f"the name of {place} is not known: correct endpoint in [media.s3]"
    if "Certificate" in error or "certificate" in error:
        return f"{place} has no valid certificate"
    return f"{place} cannot be reached"

"""A service that is compatible with S3, for one region, as strict as the API's documentation
(https://docs.aws.amazon.com/AmazonS3/latest/API/Welcome.html): every request is signed, buckets exist, and the parts of
an upload are large enough.

    async with S3() as s3:
        s3.add_bucket("media")
        s3.objects("media")                    # what is in it, by key
        s3.deny("DELETE")                      # the key may not any more
        s3.fail(503, times=2)                  # the next answers

Path-style addresses only. `requests` are the methods and paths of all requests, in order.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from aiohttp import web

from tests.servers.local import LocalServer

MAX_SKEW = timedelta(minutes=15)
MIN_PART = 5 << 20
MAX_KEYS = 1000


class Refused(Exception):
    def __init__(self, status: int, code: str, message: str, more: str = "") -> None:
        super().__init__(code)
        self.status, self.code, self.message, self.more = status, code, message, more


@dataclass(slots=True)
class Object:
    data: bytes
    changed: datetime

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.data, usedforsecurity=False).hexdigest()}"'


@dataclass(slots=True)
class Upload:
    key: str
    parts: dict[int, bytes] = field(default_factory=dict)


class S3(LocalServer):
    key_id = "AKIAIOSFODNN7EXAMPLE"
    secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

    def __init__(self, region: str = "eu-central-1") -> None:
        self.region = region
        self.requests: list[tuple[str, str]] = []
        self.uploads: dict[str, Upload] = {}
        self.page = MAX_KEYS
        """Objects in an answer to a list."""
        self._buckets: dict[str, dict[str, Object]] = {}
        self._denied: set[str] = set()
        self._allowed = 0
        self._failures: list[int] = []
        self._held: dict[str, asyncio.Event] = {}
        self._changed = asyncio.Condition()

    # For tests

    def add_bucket(self, name: str) -> None:
        self._buckets[name] = {}

    def objects(self, bucket: str) -> Mapping[str, bytes]:
        return {key: stored.data for key, stored in self._buckets[bucket].items()}

    def put(self, bucket: str, key: str, data: bytes, age: timedelta = timedelta(0)) -> None:
        """As another program does; so long ago."""
        self._buckets[bucket][key] = Object(data, datetime.now(UTC) - age)

    def make_old(self, age: timedelta) -> None:
        for bucket in self._buckets.values():
            for stored in bucket.values():
                stored.changed -= age

    def deny(self, *methods: str, after: int = 0) -> None:
        """These methods are denied, and no others; `after` so many more requests that are answered."""
        self._denied, self._allowed = set(methods), after

    def hold(self, method: str) -> asyncio.Event:
        """Requests of this method are answered once the event is set."""
        self._held[method] = asyncio.Event()
        return self._held[method]

    def fail(self, status: int, times: int) -> None:
        self._failures += [status] * times

    async def asked(self, method: str, times: int) -> None:
        """Waits until there were so many requests of this method."""
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(lambda: self.count(method) >= times)

    def count(self, method: str) -> int:
        return Counter(method for method, _ in self.requests)[method]

    # The service

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._answer)
        return app

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        async with self._changed:
            self._changed.notify_all()
        try:
            if self._failures:
                raise Refused(self._failures.pop(0), "SlowDown", "Please reduce your request rate.")
            body = await request.read()
            self._check_signature(request, body)
            if (held := self._held.get(request.method)) is not None:
                await held.wait()
            return self._serve(request, body)
        except Refused as refused:
            head = refused.status == 403 and request.method == "HEAD"
            text = (
                f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{refused.code}</Code>'
                f"<Message>{refused.message}</Message>{refused.more}<RequestId>1</RequestId></Error>"
            )
            body_text = "" if head or request.method == "HEAD" else text
            return web.Response(status=refused.status, text=body_text, content_type="application/xml")

    def _serve(self, request: web.Request, body: bytes) -> web.StreamResponse:
        if request.method in self._denied and self._allowed == 0:
            raise Refused(403, "AccessDenied", "Access Denied")
        self._allowed -= request.method in self._denied
        name, _, key = request.path.removeprefix("/").partition("/")
        bucket = self._buckets.get(name)
        if bucket is None:
            raise Refused(
                404, "NoSuchBucket", "The specified bucket does not exist", f"<BucketName>{name}</BucketName>"
            )
        query = request.query
        match request.method:
            case "GET" if not key:
                return self._list(name, bucket, query)
            case "POST" if "uploads" in query:
                return self._begin(name, key)
            case "PUT" if "uploadId" in query:
                return self._take_part(query["uploadId"], int(query["partNumber"]), body)
            case "POST" if "uploadId" in query:
                return self._complete(bucket, query["uploadId"], body)
            case "DELETE" if "uploadId" in query:
                self.uploads.pop(query["uploadId"], None)
                return web.Response(status=204)
            case "PUT":
                bucket[key] = Object(body, datetime.now(UTC))
                return web.Response(headers={"ETag": bucket[key].etag})
            case "GET" | "HEAD":
                return self._get(request, bucket, key)
            case "DELETE":
                bucket.pop(key, None)
                return web.Response(status=204)
        raise Refused(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")

    def _get(self, request: web.Request, bucket: dict[str, Object], key: str) -> web.Response:
        stored = bucket.get(key)
        if stored is None:
            raise Refused(404, "NoSuchKey", "The specified key does not exist.", f"<Key>{escape(key)}</Key>")
        headers = {
            "ETag": stored.etag,
            "Last-Modified": stored.changed.strftime("%a, %d %b %Y %H:%M:%S GMT"),
            "Accept-Ranges": "bytes",
        }
        part = request.http_range
        if part.start is None and part.stop is None:
            return web.Response(body=stored.data, headers=headers)
        start, stop, _ = part.indices(len(stored.data))
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(stored.data)}"
        return web.Response(status=206, body=stored.data[start:stop], headers=headers)

    def _list(self, name: str, bucket: dict[str, Object], query: Mapping[str, str]) -> web.Response:
        if query.get("list-type") != "2":
            raise Refused(501, "NotImplemented", "Only ListObjectsV2 is implemented.")
        after = query.get("continuation-token", query.get("start-after", ""))
        keys = sorted(key for key in bucket if key.startswith(query.get("prefix", "")) and key > after)
        page = keys[: min(self.page, int(query.get("max-keys", MAX_KEYS)))]
        is_cut = len(page) < len(keys)
        more = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if is_cut else ""
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{bucket[key].changed:%Y-%m-%dT%H:%M:%S.000Z}</LastModified>"
            f"<ETag>{escape(bucket[key].etag)}</ETag><Size>{len(bucket[key].data)}</Size></Contents>"
            for key in page
        )
        return _xml(
            f"<ListBucketResult><Name>{name}</Name><KeyCount>{len(page)}</KeyCount>"
            f"<IsTruncated>{str(is_cut).lower()}</IsTruncated>{more}{entries}</ListBucketResult>"
        )

    # Uploads in parts

    def _begin(self, bucket: str, key: str) -> web.Response:
        id = secrets.token_hex(8)
        self.uploads[id] = Upload(key)
        return _xml(
            f"<InitiateMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{escape(key)}</Key>"
            f"<UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
        )

    def _upload(self, id: str) -> Upload:
        if id not in self.uploads:
            raise Refused(404, "NoSuchUpload", "The specified upload does not exist.")
        return self.uploads[id]

    def _take_part(self, id: str, number: int, body: bytes) -> web.Response:
        self._upload(id).parts[number] = body
        return web.Response(headers={"ETag": Object(body, datetime.now(UTC)).etag})

    def _complete(self, bucket: dict[str, Object], id: str, body: bytes) -> web.Response:
        upload = self._upload(id)
        numbers = [int(each.text or "") for each in ElementTree.fromstring(body).iter() if each.tag.endswith("Number")]
        if numbers != sorted(upload.parts):
            raise Refused(400, "InvalidPart", "One or more of the specified parts could not be found.")
        if any(len(upload.parts[number]) < MIN_PART for number in numbers[:-1]):
            raise Refused(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size.")
        bucket[upload.key] = Object(b"".join(upload.parts[number] for number in numbers), datetime.now(UTC))
        del self.uploads[id]
        return _xml(
            f"<CompleteMultipartUploadResult><Key>{escape(upload.key)}</Key>"
            f"<ETag>{escape(bucket[upload.key].etag)}</ETag></CompleteMultipartUploadResult>"
        )

    # Signatures: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html

    def _check_signature(self, request: web.Request, body: bytes) -> None:
        algorithm, _, rest = request.headers.get("Authorization", "").partition(" ")
        if algorithm != "AWS4-HMAC-SHA256":
            raise Refused(403, "AccessDenied", "Access Denied")
        given = dict(part.strip().split("=", 1) for part in rest.split(","))
        key_id, day, region, service, end = given["Credential"].split("/")
        if (service, end) != ("s3", "aws4_request") or region != self.region:
            raise Refused(
                400,
                "AuthorizationHeaderMalformed",
                f"The authorization header is malformed; the region '{region}' is wrong; expecting '{self.region}'",
                f"<Region>{self.region}</Region>",
            )
        if key_id != self.key_id:
            raise Refused(403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist.")
        at = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs(datetime.now(UTC) - at) > MAX_SKEW or at.strftime("%Y%m%d") != day:
            raise Refused(
                403, "RequestTimeTooSkewed", "The difference between the request time and the time is too large."
            )
        self._check_digests(request, body, given, f"{day}/{region}/{service}/{end}")

    def _check_digests(self, request: web.Request, body: bytes, given: Mapping[str, str], scope: str) -> None:
        digest = request.headers["x-amz-content-sha256"]
        if digest not in ("UNSIGNED-PAYLOAD", hashlib.sha256(body).hexdigest()):
            raise Refused(400, "XAmzContentSHA256Mismatch", "The provided header does not match what was computed.")
        names = given["SignedHeaders"].split(";")
        if "host" not in names:
            raise Refused(403, "AccessDenied", "There were headers present in the request which were not signed")
        canonical = "\n".join(
            [
                request.method,
                request.rel_url.raw_path,
                "&".join(sorted(_encoded_query(request.rel_url.raw_query_string))),
                *(f"{name}:{' '.join(request.headers[name].split())}" for name in names),
                "",
                given["SignedHeaders"],
                digest,
            ]
        )
        hashed = hashlib.sha256(canonical.encode()).hexdigest()
        signed = "\n".join(["AWS4-HMAC-SHA256", request.headers["x-amz-date"], scope, hashed])
        key = f"AWS4{self.secret}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        if not hmac.compare_digest(hmac.new(key, signed.encode(), "sha256").hexdigest(), given["Signature"]):
            raise Refused(403, "SignatureDoesNotMatch", "The request signature we calculated does not match.")


def _encoded_query(query: str) -> Iterator[str]:
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        yield f"{quote(unquote(name), safe='-_.~')}={quote(unquote(value), safe='-_.~')}"


def _xml(body: str) -> web.Response:
    return web.Response(text=f'<?xml version="1.0" encoding="UTF-8"?>\n{body}', content_type="application/xml")


def options(service: S3) -> dict[str, Any]:
    """What a client needs to use the service."""
    return {
        "endpoint": service.url,
        "region": service.region,
        "access_key_id": service.key_id,
        "secret_access_key": service.secret,
    }

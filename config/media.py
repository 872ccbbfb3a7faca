"""Settings of the media store: where pictures and files are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NewType
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, model_validator
from pydantic.fields import FieldInfo

from config.section import PathText, Secret, Section, WebAddress, wrong

FILE = "file://"
S3 = "s3://"

MediaUrl = NewType("MediaUrl", str)
"""It may begin with file://, which is no reference to a file here."""

BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html"""

PREFIX_PART = re.compile(r"(?!\.\.?$)[A-Za-z0-9!_.*'()-]+")
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html: characters that need no care."""

VARIABLES: Mapping[str, tuple[str, ...]] = {
    "endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "access_key_id": ("AWS_ACCESS_KEY_ID",),
    "secret_access_key": ("AWS_SECRET_ACCESS_KEY",),
    "session_token": ("AWS_SESSION_TOKEN",),
}
"""The environment variables of the AWS tools that give what [media.s3] does not; the first that is set counts."""

SECRET_VARIABLES = frozenset({"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"})

KEYS = ("access_key_id", "secret_access_key", "session_token")
"""Settings that belong together: none of them is taken from the environment if one is given."""


def _place(text: str) -> str:
    if text.startswith(S3):
        bucket, _, prefix = text.removeprefix(S3).partition("/")
        if not BUCKET.fullmatch(bucket):
            raise wrong("expected s3://BUCKET or s3://BUCKET/PREFIX, with the name of a bucket in lower-case letters")
        prefix = prefix.strip("/")
        if prefix and not all(PREFIX_PART.fullmatch(part) for part in prefix.split("/")):
            raise wrong("expected a prefix of letters, digits and -_.!*'(), like s3://BUCKET/interject/media")
        return f"{S3}{bucket}/{prefix}".rstrip("/")
    if not re.fullmatch(rf"{FILE}/[^?#]+", text):
        raise wrong("expected file:///PATH for a folder, or s3://BUCKET/PREFIX for a bucket")
    return text


class S3Settings(Section):
    """The service that has the bucket of an s3:// URL. What is left out is taken from the usual AWS_… variables, and
    keys also from the role of the machine."""

    endpoint: WebAddress | None = Field(
        default=None,
        description="Address of a service that is compatible with S3. Default: that of AWS in the region.",
        examples=["https://s3.example.com"],
    )
    region: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="Region of the bucket. Default: us-east-1.", examples=["eu-central-1"]
    )
    access_key_id: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="Id of the access key.", examples=["AKIAIOSFODNN7EXAMPLE"]
    )
    secret_access_key: Secret | None = Field(
        default=None, description="The access key's secret.", examples=["wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"]
    )
    session_token: Secret | None = Field(
        default=None, description="Token of a temporary access key.", examples=["FwoGZXIvYXdzE"]
    )
    virtual_hosted_style: bool = Field(
        default=False,
        description="Whether the bucket's name is a part of the host name, as in https://bucket.s3.example.com. The "
        "endpoint is given with it then.",
    )

    @model_validator(mode="after")
    def _whole_keys(self) -> S3Settings:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise wrong("access_key_id and secret_access_key belong together: set both, or none")
        return self


class MediaSettings(Section):
    """Pictures and files, received or created."""

    path: PathText = Field(
        default=Path("media"),
        description="Directory in which they are stored: one of this machine, or one that several machines share.",
    )
    url: Annotated[MediaUrl, AfterValidator(_place)] | None = Field(
        default=None,
        description="Where they are stored, instead of in path: file:///PATH, or s3://BUCKET/PREFIX for a bucket, "
        "which needs the extra s3.",
        examples=["s3://my-bucket/interject"],
    )
    cache_bytes: int = Field(
        default=1_000_000_000,
        ge=0,
        description="For a bucket: how much of it is kept as files of this machine, those used last. They are in "
        "cache/media in the data directory.",
    )
    s3: S3Settings = Field(default_factory=S3Settings)

    @classmethod
    def fields(cls) -> dict[str, FieldInfo]:
        """Without [media.s3], a section of its own."""
        return {name: field for name, field in cls.model_fields.items() if name != "s3"}

    @property
    def is_bucket(self) -> bool:
        return self.url is not None and self.url.startswith(S3)

    @property
    def folder(self) -> Path | None:
        """The folder in which they are stored; None: a bucket."""
        if self.url is None:
            return self.path
        return None if self.is_bucket else Path(unquote(urlsplit(self.url).path))

    @property
    def bucket(self) -> tuple[str, str]:
        """The bucket's name, and the prefix of the keys there, without slashes at its ends."""
        bucket, _, prefix = (self.url or "").removeprefix(S3).partition("/")
        return bucket, prefix


def with_aws_variables(tree: dict[str, object], environ: Mapping[str, str]) -> dict[str, object]:
    """The tree of the settings, in which [media.s3] has what the AWS variables give, if the media are in a bucket."""
    media = tree.get("media")
    if not isinstance(media, dict) or not str(media.get("url", "")).startswith(S3):
        return tree
    given = media.get("s3", {})
    if not isinstance(given, dict):
        return tree
    has_keys = any(name in given for name in KEYS)
    found = {
        name: value
        for name, variables in VARIABLES.items()
        if name not in given and not (name in KEYS and has_keys)
        if (value := next(filter(None, map(environ.get, variables)), None))
    }
    if "access_key_id" not in found or "secret_access_key" not in found:
        found = {name: value for name, value in found.items() if name not in KEYS}
    return {**tree, "media": {**media, "s3": {**given, **found}}}

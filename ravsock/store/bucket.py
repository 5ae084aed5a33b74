"""One bucket of an S3-compatible store: its address, what lies where in it, and its errors as ours.

The only place that imports boto3, and only when there is a bucket. Used by `s3` and `presigned`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from ravop.errors import ArgumentError, BlobError, RavenError, StorageFullError, UnreachableError
from ravsock.store.blobstore import Lying, checked_name, missing

ENDPOINT = "RAVENVERSE_S3_ENDPOINT"
"""Environment variable: where the store answers, if it is not AWS."""
ASIDE = "incoming/"
CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 60.0
CONNECTIONS = 32
_OPTIONS = ("endpoint", "region")
_SECRETS = re.compile(r"//.*@")
_EXPECTED = "s3://bucket/prefix, with ?endpoint=https://… for a store that is not AWS"


class OutOfRangeError(BlobError):
    """The blob is there, and shorter."""


class Address(NamedTuple):
    """Which bucket, and where in it."""

    bucket: str
    prefix: str
    endpoint: str | None
    region: str | None


def parse_address(url: str) -> Address:
    """What `s3://bucket/prefix?endpoint=…&region=…` says. Raises `ArgumentError`."""
    parts = urlsplit(url)
    options = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
    strange = [key for key in options if key not in _OPTIONS]
    odd = {":", "@"} & set(parts.netloc)
    if parts.scheme != "s3" or not parts.hostname or odd or parts.fragment or strange:
        raise ArgumentError(
            "not the URL of a bucket", expected=_EXPECTED, received=_SECRETS.sub("//…@", url),
            hint="correct --blobs; keys are taken from where AWS's tools find them",
        )  # fmt: skip
    endpoint = options.get("endpoint") or os.environ.get(ENDPOINT) or None
    if endpoint is not None:
        check_endpoint(endpoint)
    prefix = parts.path.strip("/")
    return Address(
        parts.netloc, f"{prefix}/" if prefix else "", endpoint, options.get("region") or _region(endpoint)
    )


def check_endpoint(url: str) -> None:
    """Raises `ArgumentError` where this is not the address of a store."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise ArgumentError(
            "not the address of an S3 store", expected="https://host:port", received=url,
            hint=f"correct ?endpoint= in --blobs, {ENDPOINT}, or --blobs-public-endpoint",
        )  # fmt: skip


def _region(endpoint: str | None) -> str | None:
    """Stores of other makers have none, but a signature needs one; that of AWS is found as its tools find it."""
    if endpoint is None or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
        return None
    return "us-east-1"


class Bucket:
    """Calls to one bucket. Raises `UnreachableError` with words for whatever keeps it from being used."""

    def __init__(self, address: Address, endpoint: str | None = None) -> None:
        self.address = address
        self._endpoint = endpoint or address.endpoint
        self.client = _client(self._endpoint, address.region)

    def key(self, sha: str, place: int | None) -> str:
        """Where a copy lies: the checked one under the blob's name, another under its name and token."""
        return self.address.prefix + checked_name(sha) + ("" if place is None else f".{int(place)}")

    def aside(self, sha: str, place: int) -> str:
        """Where a client puts a blob that is to become the checked copy."""
        return f"{self.address.prefix}{ASIDE}{checked_name(sha)}.{int(place)}"

    def lying(self, key: str) -> Lying | None:
        """What lies at a key; None where it is none of ours."""
        sha, _, place = key.removeprefix(self.address.prefix).partition(".")
        try:
            return Lying(checked_name(sha), int(place) if place else None)
        except (BlobError, ValueError):
            return None

    def call(self, operation: str, sha: str = "", **params: Any) -> Any:
        """One request; `sha`: the blob it is about. Raises as the class says, or `BlobError`, `StorageFullError`."""
        with self.translated(sha):
            return getattr(self.client, operation)(Bucket=self.address.bucket, **params)

    def pages(self, operation: str, sha: str = "", **params: Any) -> Iterator[dict[str, Any]]:
        """The answers of a request that comes in pages. Raises as `call`."""
        with self.translated(sha):
            yield from self.client.get_paginator(operation).paginate(Bucket=self.address.bucket, **params)

    @contextmanager
    def translated(self, sha: str = "") -> Iterator[None]:
        """Errors of boto3 within become ours."""
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError
        from botocore.exceptions import ConnectionError as NotConnectedError
        from urllib3.exceptions import HTTPError

        try:
            yield
        except RavenError:
            raise
        except ClientError as error:
            raise self._error(error.response.get("Error", {}), sha) from error
        except NoCredentialsError as error:
            raise self._unusable(
                "there are no credentials for the blob store", error, _CREDENTIALS
            ) from error
        except (NotConnectedError, HTTPClientError, HTTPError, OSError) as error:
            raise self._unusable("the blob store does not answer", error, _NETWORK) from error
        except BotoCoreError as error:
            raise self._unusable("the blob store cannot be used", error, _CREDENTIALS) from error

    def _error(self, error: dict[str, Any], sha: str) -> RavenError:
        code, text = str(error.get("Code", "")), str(error.get("Message", ""))[:500]
        if code in _MISSING:
            return missing(sha)
        if code in _NO_SUCH_BYTES:
            return OutOfRangeError("the blob has no such bytes", received=sha)
        if code == "NoSuchUpload":
            return BlobError("the blob store does not know this upload", received=sha, hint="upload it again")
        if code in _OTHER_BYTES:
            return BlobError("the blob store received other bytes", expected=sha, received=text)
        if code in _FULL:
            return StorageFullError("the blob store is full", received=text, hint="make room in it")
        message, hint = _REFUSALS.get(code, ("the blob store refused a request", "see its log"))
        return self._unusable(message, f"{code}: {text}", hint)

    def _unusable(self, message: str, received: object, hint: str) -> UnreachableError:
        where = f"bucket {self.address.bucket} at {self._endpoint or 'AWS'}"
        return UnreachableError(message, expected=where, received=received, hint=hint)


_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, where this program runs"
_NETWORK = f"check that it runs, the address in --blobs or {ENDPOINT}, and the network"
_RIGHTS = "allow these credentials to list the bucket, and to get, put and delete its objects"
_MISSING = frozenset({"NoSuchKey", "NotFound", "404"})
_NO_SUCH_BYTES = frozenset({"InvalidRange", "416"})
_OTHER_BYTES = frozenset(
    {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"}
)
_FULL = frozenset(
    {"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"}
)
_REFUSALS = {
    "NoSuchBucket": ("there is no such bucket", "make it, or name another with --blobs"),
    "AccessDenied": ("the blob store denies access", _RIGHTS),
    "403": ("the blob store denies access", _RIGHTS),
    "AllAccessDisabled": ("the blob store denies access", _RIGHTS),
    "InvalidAccessKeyId": ("the blob store does not know these credentials", _CREDENTIALS),
    "SignatureDoesNotMatch": ("the blob store does not take these credentials", _CREDENTIALS),
    "ExpiredToken": ("the credentials for the blob store have expired", _CREDENTIALS),
    "RequestTimeTooSkewed": ("the clocks of the coordinator and the blob store differ", "set the clocks"),
    "InvalidBucketName": ("this is not the name of a bucket", "name another with --blobs"),
}
"""What a code of the store means, and what to do."""


def _client(endpoint: str | None, region: str | None) -> Any:
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError as error:
        raise ArgumentError(
            "blobs in a bucket need boto3", received=error, hint="pip install 'ravenverse[s3]'"
        ) from error
    config = Config(
        signature_version="s3v4",
        connect_timeout=CONNECT_SECONDS,
        read_timeout=SILENCE_SECONDS,
        retries={"total_max_attempts": 3, "mode": "standard"},
        max_pool_connections=CONNECTIONS,
        s3={"addressing_style": "virtual" if endpoint is None else "path"},
        # ours are SHA-256 and named; those that boto3 adds by itself, other stores do not know
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        return boto3.session.Session().client("s3", endpoint_url=endpoint, region_name=region, config=config)
    except (BotoCoreError, ValueError) as error:
        raise ArgumentError("the blob store cannot be used", received=error, hint=_CREDENTIALS) from error

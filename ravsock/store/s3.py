"""Blobs in a bucket of an S3-compatible store: `PREFIX<sha256>`, each there only when it is whole and its bytes are
checked; and beside them copies that clients uploaded in parts, `PREFIX<sha256>.<token>`, which nobody has checked.

How clients transfer without the coordinator is in `presigned`.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sys
import time
from base64 import b64encode
from collections.abc import AsyncIterable, Iterator
from typing import Any

from ravop.errors import BlobError, RavenError, UnreachableError
from ravop.protocol.tensors import HEAD, Blob
from ravsock.core.recent import Recent
from ravsock.store.blobstore import CHUNK, BlobWriter, Direct, Lying, checked_name, mismatch
from ravsock.store.bucket import ASIDE, Address, Bucket, OutOfRangeError
from ravsock.store.presigned import Presigned

PART = 16 * 1024 * 1024
"""Bytes that a writer gathers before it sends them: one request, or one part of several. S3 takes 10,000 of at least
5 MiB."""
HEADS = 2_000
"""First bytes of blobs that are remembered, of 4 KiB each."""
ASIDE_SECONDS = 86_400.0
"""What lies aside for so long, nobody will take in: its URL has expired."""
ABANDONED_SECONDS = 7 * 86_400.0
"""Parts that old of an upload that did not end are thrown away."""

log = logging.getLogger(__name__)


class S3Blobs:
    """A `BlobStore` in a bucket that exists.

    `presign`: clients transfer by URLs that are signed here, to `public_endpoint` where the store has another address
    for them. Raises `UnreachableError` where the bucket cannot be used, `ArgumentError` without boto3.
    """

    def __init__(self, address: Address, *, presign: bool = True, public_endpoint: str | None = None) -> None:
        self._bucket = Bucket(address)
        self._heads: Recent[tuple[str, int | None], bytes] = Recent(HEADS)
        self.check()
        checks = self._refuses_other_bytes()
        public = Bucket(address, public_endpoint) if public_endpoint else self._bucket
        self.direct: Direct | None = Presigned(self._bucket, public, checks) if presign else None
        self.clear(time.time())

    def identity(self) -> str:
        """Bucket and prefix: the store may have several addresses."""
        bucket, prefix = self._bucket.address[:2]
        return f"bucket {hashlib.sha256(f'{bucket}/{prefix}'.encode()).hexdigest()}"

    def check(self) -> None:
        """Raises `UnreachableError` where the bucket cannot be used now."""
        self._bucket.call("list_objects_v2", MaxKeys=1, Prefix=self._bucket.address.prefix)

    def has(self, sha: str, place: int | None = None) -> bool:
        checked_name(sha)
        try:
            self.size(sha, place)
        except BlobError:
            return False
        return True

    def size(self, sha: str, place: int | None = None) -> int:
        """Bytes. Raises `BlobError` where the blob is not there."""
        return int(self._bucket.call("head_object", sha, Key=self._bucket.key(sha, place))["ContentLength"])

    def writer(self, sha: str) -> BlobWriter:
        return _BucketWriter(self._bucket, sha)

    async def put(self, sha: str, chunks: AsyncIterable[bytes]) -> int:
        """Store the bytes and give their number. Raises `BlobError` where their hash is not `sha`."""
        writer = self.writer(sha)
        try:
            async for chunk in chunks:
                await asyncio.to_thread(writer.write, chunk)
            return await asyncio.to_thread(writer.commit)
        finally:
            await asyncio.to_thread(writer.close)

    def read(
        self, sha: str, place: int | None = None, start: int = 0, stop: int | None = None
    ) -> Iterator[bytes]:
        """Bytes `start` to `stop` (None: the end) in chunks of up to 1 MiB. Raises `BlobError` at once where
        the blob is not there."""
        if stop is not None and start >= stop:
            self.size(sha, place)
            return iter(())
        body = self._opened(sha, place, start, stop)
        return iter(()) if body is None else self._chunks(body, sha, place, start, stop)

    def head(self, blob: Blob, place: int | None = None) -> bytes:
        """The first bytes, enough for a tensor's header. Raises `BlobError` where the blob is not there.

        They are remembered for a while: who asks in the middle of a transaction does not wait for the network if somebody
        asked before.
        """
        found = self._heads.get((blob.sha, place))
        if found is None:
            found = self._heads[blob.sha, place] = next(self.read(blob.sha, place, 0, HEAD), b"")
        return found

    def delete(self, sha: str, place: int | None = None) -> None:
        """Forget the blob; nothing happens where it is not there."""
        self._bucket.call("delete_object", sha, Key=self._bucket.key(sha, place))
        self._heads.pop((sha, place))

    def stored(self, before: float, beginning: str = "") -> Iterator[Lying]:
        """All whose bytes are there since before that time, in seconds since 1970, and whose names begin so."""
        for page in self._bucket.pages("list_objects_v2", Prefix=self._bucket.address.prefix + beginning):
            for found in page.get("Contents", ()):
                lying = self._bucket.lying(found["Key"])
                if lying is not None and found["LastModified"].timestamp() < before:
                    yield lying

    def abort(self, sha: str, place: int, handle: str) -> None:
        """Throw away what was stored of an upload; `handle`: empty for one in a single request."""
        if handle:
            self._abort(self._bucket.key(sha, place), handle)
        else:
            self._bucket.call("delete_object", sha, Key=self._bucket.aside(sha, place))

    def clear(self, now: float) -> None:
        """Throw away what is left of uploads of which nothing is known any more."""
        aside = f"{self._bucket.address.prefix}{ASIDE}"
        for page in self._bucket.pages("list_objects_v2", Prefix=aside):
            for left in page.get("Contents", ()):
                if left["LastModified"].timestamp() < now - ASIDE_SECONDS:
                    self._bucket.call("delete_object", Key=left["Key"])
        try:
            for page in self._bucket.pages("list_multipart_uploads", Prefix=self._bucket.address.prefix):
                for upload in page.get("Uploads", ()):
                    if upload["Initiated"].timestamp() < now - ABANDONED_SECONDS:
                        self._abort(upload["Key"], upload["UploadId"])
        except UnreachableError as error:  # some stores cannot list them
            log.warning("abandoned uploads could not be cleared away: %s", error)

    def free(self) -> int:
        """Bytes left: a bucket has no end."""
        return sys.maxsize

    def _opened(self, sha: str, place: int | None, start: int, stop: int | None) -> Any:
        """The body of an answer; None where the blob ends before."""
        part = f"bytes={start}-" if stop is None else f"bytes={start}-{stop - 1}"
        try:
            found = self._bucket.call("get_object", sha, Key=self._bucket.key(sha, place), Range=part)
        except OutOfRangeError:
            return None
        return found["Body"]

    def _chunks(
        self, body: Any, sha: str, place: int | None, start: int, stop: int | None
    ) -> Iterator[bytes]:
        """Goes on where the line broke, as long as each attempt brings something."""
        began = start
        while body is not None:
            try:
                with self._bucket.translated(sha), body:
                    for chunk in body.iter_chunks(CHUNK):
                        start += len(chunk)
                        yield chunk
                return
            except UnreachableError:
                if start == began:
                    raise
            began = start
            body = self._opened(sha, place, start, stop)

    def _refuses_other_bytes(self) -> bool:
        """Whether the store checks bytes against the SHA-256 in the request, as AWS does. Finds out, too, whether the
        coordinator may write. Raises `UnreachableError` where it may not.
        """
        key = f"{self._bucket.address.prefix}probe"
        try:
            self._bucket.call("put_object", Key=key, Body=b"probe", ChecksumSHA256=_base64(hashlib.sha256()))
        except BlobError:
            return True
        self._bucket.call("delete_object", Key=key)
        log.warning(
            "the blob store does not check SHA-256: uploads past the coordinator stay with who made them"
        )
        return False

    def _abort(self, key: str, handle: str) -> None:
        try:
            self._bucket.call("abort_multipart_upload", Key=key, UploadId=handle)
        except BlobError:
            log.debug("an upload to %s had ended", key)


class _BucketWriter:
    """Sends what is small as one object, what is large in parts, which become one only when the hash is right."""

    def __init__(self, bucket: Bucket, sha: str) -> None:
        self._bucket, self._sha, self._key = bucket, sha, bucket.key(sha, None)
        self._hash = hashlib.sha256()
        self._size = 0
        self._buffer = bytearray()
        self._handle: str | None = None
        self._parts: list[dict[str, object]] = []

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        self._hash.update(chunk)
        self._size += len(chunk)
        self._buffer += chunk
        if len(self._buffer) >= PART:
            self._send_part()

    def commit(self) -> int:
        """Make the bytes durable under their name; gives their number. Raises `BlobError` where they are
        others.
        """
        if self._hash.hexdigest() != self._sha:
            raise mismatch(self._sha, self._hash.hexdigest())
        if self._handle is None:
            self._bucket.call(
                "put_object",
                self._sha,
                Key=self._key,
                Body=bytes(self._buffer),
                ChecksumSHA256=_base64(self._hash),
            )
            return self._size
        if self._buffer:
            self._send_part()
        self._bucket.call(
            "complete_multipart_upload",
            self._sha,
            Key=self._key,
            UploadId=self._handle,
            MultipartUpload={"Parts": self._parts},
        )
        self._handle = None
        return self._size

    def close(self) -> None:
        if self._handle is not None:
            try:
                self._bucket.call("abort_multipart_upload", Key=self._key, UploadId=self._handle)
            except RavenError as trouble:  # what is left is cleared away later
                log.warning("an upload could not be broken off: %s", trouble)

    def _send_part(self) -> None:
        if self._handle is None:
            begun = self._bucket.call("create_multipart_upload", self._sha, Key=self._key)
            self._handle = begun["UploadId"]
        number = len(self._parts) + 1
        body, self._buffer = bytes(self._buffer), bytearray()
        sent = self._bucket.call(
            "upload_part",
            self._sha,
            Key=self._key,
            UploadId=self._handle,
            PartNumber=number,
            Body=body,
            ContentMD5=b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode(),
        )
        self._parts.append({"PartNumber": number, "ETag": sent["ETag"]})


def _base64(digest: hashlib._Hash) -> str:
    """A hash as S3 writes it."""
    return b64encode(digest.digest()).decode()

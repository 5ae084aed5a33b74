"""Transfers between clients and a bucket, past the coordinator: requests that it signs and others make.

What a URL allows is all in its signature: one method on one object, the number of bytes, and for a whole blob the SHA-256 that
the store has to check. Nothing here says who may have one.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from ravop.errors import BlobError
from ravop.protocol.uploads import CHECKSUM
from ravsock.store.blobstore import Signed
from ravsock.store.bucket import Bucket

URL_SECONDS = 3600
"""A URL may be used for so long; a transfer that has begun may last longer."""


class Presigned:
    """A `Direct`. `public`: the same bucket by the address that clients reach it at. `checks`: the store refuses bytes that do
    not have the SHA-256 that a request names.
    """

    def __init__(self, bucket: Bucket, public: Bucket, checks: bool) -> None:
        self._bucket = bucket
        self._public = public
        self._checks = checks

    def download(self, sha: str, place: int | None) -> str:
        """A URL for the blob, whole or in ranges."""
        return self._signed("get_object", self._public.key(sha, place))

    def upload(self, sha: str, place: int, size: int) -> Signed:
        """A request that stores the blob, of this size: aside, and only if the hash is right, if the store can tell."""
        if not self._checks:
            key = self._bucket.key(sha, place)
            return Signed(self._signed("put_object", key, ContentLength=size), {})
        key, checksum = self._bucket.aside(sha, place), b64encode(bytes.fromhex(sha)).decode()
        url = self._signed("put_object", key, ContentLength=size, ChecksumSHA256=checksum)
        return Signed(url, {CHECKSUM: checksum})

    def take(self, sha: str, place: int) -> tuple[int, int | None]:
        """What was stored by such a request becomes a blob: the checked one, without passing through here, where the
        store has checked it. That it lay aside shows that this client has the bytes, too.
        """
        if not self._checks:
            return self._size(sha, self._bucket.key(sha, place)), place
        aside = self._bucket.aside(sha, place)
        size = self._size(sha, aside)
        source = {"Bucket": self._bucket.address.bucket, "Key": aside}
        self._bucket.call("copy_object", sha, Key=self._bucket.key(sha, None), CopySource=source)
        self._bucket.call("delete_object", sha, Key=aside)
        return size, None

    def begin(self, sha: str, place: int) -> str:
        """Begin an upload in parts; its handle."""
        begun = self._bucket.call("create_multipart_upload", sha, Key=self._bucket.key(sha, place))
        return str(begun["UploadId"])

    def parts(self, sha: str, place: int, handle: str) -> dict[int, int]:
        """Numbers and sizes of the parts that are there. Raises `BlobError` where the upload is not known."""
        return {part["PartNumber"]: part["Size"] for part in self._parts(sha, place, handle)}

    def part(self, sha: str, place: int, handle: str, number: int, size: int) -> Signed:
        """A request that stores one part, of this size."""
        key = self._bucket.key(sha, place)
        url = self._signed("upload_part", key, UploadId=handle, PartNumber=number, ContentLength=size)
        return Signed(url, {})

    def finish(self, sha: str, place: int, handle: str, sizes: Mapping[int, int]) -> None:
        """Make one object of the parts, which must have these sizes. Raises `BlobError` where they do not, or where
        the upload is not known.
        """
        parts = self._parts(sha, place, handle)
        if {part["PartNumber"]: part["Size"] for part in parts} != dict(sizes):
            raise BlobError(
                "parts of the upload are missing, or too many",
                expected=f"{len(sizes)} parts, {sum(sizes.values()):,} bytes",
                received=f"{len(parts)} parts, {sum(part['Size'] for part in parts):,} bytes",
                hint="ask which are missing, and send them",
            )
        chosen = [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in parts]
        self._bucket.call(
            "complete_multipart_upload",
            sha,
            Key=self._bucket.key(sha, place),
            UploadId=handle,
            MultipartUpload={"Parts": chosen},
        )

    def _parts(self, sha: str, place: int, handle: str) -> list[dict[str, Any]]:
        key = self._bucket.key(sha, place)
        pages = self._bucket.pages("list_parts", sha, Key=key, UploadId=handle)
        return [part for page in pages for part in page.get("Parts", ())]

    def _size(self, sha: str, key: str) -> int:
        return int(self._bucket.call("head_object", sha, Key=key)["ContentLength"])

    def _signed(self, operation: str, key: str, **params: Any) -> str:
        with self._public.translated():
            url: str = self._public.client.generate_presigned_url(
                operation,
                Params={"Bucket": self._public.address.bucket, "Key": key, **params},
                ExpiresIn=URL_SECONDS,
            )
            return url

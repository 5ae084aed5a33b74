"""Where blobs are: opens the store that a URL or a folder names."""

from __future__ import annotations

from pathlib import Path

from ravop.errors import ArgumentError
from ravsock.store.blobstore import BlobStore
from ravsock.store.folder import FolderBlobs


def open_blobs(
    where: str | None, data: Path, *, presign: bool = True, public_endpoint: str | None = None
) -> BlobStore:
    """The store at `where`: `s3://bucket/prefix`, or a folder; None: the folder `blobs` in `data`.

    `presign`, `public_endpoint`: for a bucket, see `S3Blobs`. Raises `ArgumentError` for what names none, `UnreachableError` for
    a bucket that cannot be used, `OSError` for such a folder.
    """
    scheme, separator, _ = (where or "").partition("://")
    if not where or not separator:
        return FolderBlobs(Path(where) if where else data / "blobs")
    if scheme != "s3":
        raise ArgumentError(
            "not a place for blobs", expected="a folder, or s3://bucket/prefix", received=where,
            hint="correct --blobs",
        )  # fmt: skip
    from ravsock.store.bucket import check_endpoint, parse_address
    from ravsock.store.s3 import S3Blobs

    if public_endpoint:
        check_endpoint(public_endpoint)
    return S3Blobs(parse_address(where), presign=presign, public_endpoint=public_endpoint)

"""Uploads in parts that are under way. Their bytes, and what a part is, are the `BlobStore`'s."""

from __future__ import annotations

import uuid
from typing import Any

import sqlalchemy as sa

from ravop.errors import QuotaError
from ravsock.store.blobs import Blobs
from ravsock.store.schema import uploads
from ravsock.store.values import Upload

AT_A_TIME = 10_000
"""Uploads that a token may have under way: many volunteers may share one."""
_COUNT = sa.select(sa.func.count()).where(
    uploads.c.owner == sa.bindparam("of"), uploads.c.sha != sa.bindparam("but")
)


class Uploads(Blobs):
    def begin_upload(self, sha: str, owner: int, size: int, handle: str, now: float) -> Upload:
        """Note an upload, which counts as used from now on. Where one of the same blob and owner is under way, gives that
        one, which is not abandoned: the caller aborts its own if it has another `handle`. Raises `QuotaError`, also for too
        many at a time: they cost something even where nothing is sent."""
        row = {
            "id": uuid.uuid4().hex, "sha": sha, "owner": owner, "size": size, "handle": handle, "touched": now,
        }  # fmt: skip
        with self.write() as connection:
            self._check_quota(connection, owner, size, sha, lock=True)
            if connection.execute(_COUNT, {"of": owner, "but": sha}).scalar_one() >= AT_A_TIME:
                raise QuotaError(
                    "too many uploads are under way", expected=f"at most {AT_A_TIME:,} for a token",
                    hint="end those that were begun; what nobody goes on with is forgotten after a day",
                )  # fmt: skip
            insert = self.upsert(uploads, ("sha", "owner"), ("touched",)).returning(*uploads.c)
            return _upload(connection.execute(insert, row).one())

    def upload(self, sha: str, owner: int) -> Upload | None:
        with self.read() as connection:
            query = sa.select(uploads).where(uploads.c.sha == sha, uploads.c.owner == owner)
            row = connection.execute(query).one_or_none()
            return None if row is None else _upload(row)

    def end_upload(self, upload_id: str) -> None:
        """It is finished, or given up; nothing happens where it has ended."""
        with self.write() as connection:
            connection.execute(sa.delete(uploads).where(uploads.c.id == upload_id))

    def stale_uploads(self, before: float) -> list[Upload]:
        """Those that nobody has begun or taken up since."""
        with self.read() as connection:
            query = sa.select(uploads).where(uploads.c.touched < before).order_by(uploads.c.touched)
            return [_upload(row) for row in connection.execute(query)]


def _upload(row: Any) -> Upload:
    return Upload(
        upload_id=row.id, sha=row.sha, owner=row.owner, size=row.size, handle=row.handle, touched=row.touched
    )

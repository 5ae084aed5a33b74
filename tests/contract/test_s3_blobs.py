"""What is special about blobs in a bucket: copies that nobody checked, signed requests, and a store that refuses."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from test_blob_stores import DATA, LATER, SHA, pieces

from ravop.errors import ArgumentError, BlobError, UnreachableError
from ravsock.server.data import data_folder
from ravsock.store.blobstore import Direct, Signed
from ravsock.store.places import open_blobs
from ravsock.store.s3 import S3Blobs

if TYPE_CHECKING:
    from buckets import S3Server

NOWHERE = Path("unused")
SMALL = DATA[:70_000]
SMALL_SHA = hashlib.sha256(SMALL).hexdigest()
ALICE, BOB = 7, 8


@pytest.fixture
def blobs(s3: S3Server, bucket: str) -> S3Blobs:
    opened = open_blobs(s3.place(bucket), NOWHERE)
    assert isinstance(opened, S3Blobs)
    return opened


@pytest.fixture
def direct(blobs: S3Blobs) -> Direct:
    assert blobs.direct is not None
    return blobs.direct


def send(request: Signed, data: bytes, **headers: str) -> int:
    """What the store answers to whoever has the URL."""
    made = urllib.request.Request(request.url, data, {**request.headers, **headers}, method="PUT")
    try:
        with urllib.request.urlopen(made) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_signed_upload_becomes_the_checked_copy_without_passing_through(
    blobs: S3Blobs, direct: Direct
) -> None:
    assert send(direct.upload(SMALL_SHA, ALICE, len(SMALL)), SMALL) == 200
    assert not blobs.has(SMALL_SHA)
    assert direct.take(SMALL_SHA, ALICE) == (len(SMALL), None)
    assert b"".join(blobs.read(SMALL_SHA)) == SMALL
    with urllib.request.urlopen(direct.download(SMALL_SHA, None)) as answer:
        assert answer.read() == SMALL


def test_a_signed_upload_takes_the_named_bytes_and_no_others(direct: Direct) -> None:
    request = direct.upload(SMALL_SHA, ALICE, len(SMALL))
    other = bytes(len(SMALL))
    assert send(request, other) == 400
    assert send(request, SMALL + b"more") == 403
    assert send(request._replace(url=request.url.replace(SMALL_SHA, SHA)), SMALL) == 403
    assert send(request._replace(headers={}), SMALL) == 403
    with pytest.raises(BlobError, match="no such blob"):
        direct.take(SMALL_SHA, ALICE)


def test_who_uploaded_nothing_cannot_take_what_is_there(blobs: S3Blobs, direct: Direct) -> None:
    send(direct.upload(SMALL_SHA, ALICE, len(SMALL)), SMALL)
    direct.take(SMALL_SHA, ALICE)
    direct.upload(SMALL_SHA, BOB, len(SMALL))
    with pytest.raises(BlobError, match="no such blob"):
        direct.take(SMALL_SHA, BOB)


def test_a_url_that_has_expired_is_refused(direct: Direct, monkeypatch: pytest.MonkeyPatch) -> None:
    past = datetime.now(UTC) - timedelta(hours=2)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda remove_tzinfo=True: past)
    assert send(direct.upload(SMALL_SHA, ALICE, len(SMALL)), SMALL) == 403


def test_parts_become_a_copy_of_their_own(blobs: S3Blobs, direct: Direct) -> None:
    garbage = bytes(1000)
    for token, data in ((ALICE, garbage + b"end"), (BOB, DATA[:1003])):
        handle = direct.begin(SHA, token)
        sizes = {1: 1000, 2: 3}
        assert direct.parts(SHA, token, handle) == {}
        assert send(direct.part(SHA, token, handle, 2, 3), data[1000:]) == 200
        with pytest.raises(BlobError, match="missing"):
            direct.finish(SHA, token, handle, sizes)
        assert send(direct.part(SHA, token, handle, 1, 1000), data) == 403  # more than was signed
        assert send(direct.part(SHA, token, handle, 1, 1000), data[:1000]) == 200
        direct.finish(SHA, token, handle, sizes)
    assert not blobs.has(SHA)
    assert b"".join(blobs.read(SHA, ALICE)) == garbage + b"end"
    assert b"".join(blobs.read(SHA, BOB)) == DATA[:1003]
    assert sorted(blobs.stored(LATER)) == [(SHA, ALICE), (SHA, BOB)]
    blobs.delete(SHA, ALICE)
    assert list(blobs.stored(LATER)) == [(SHA, BOB)]


def test_what_is_left_of_uploads_is_cleared_away(
    s3: S3Server, bucket: str, blobs: S3Blobs, direct: Direct
) -> None:
    send(direct.upload(SMALL_SHA, ALICE, len(SMALL)), SMALL)
    handle = direct.begin(SHA, ALICE)
    send(direct.part(SHA, ALICE, handle, 1, 5), b"12345")
    assert list(blobs.stored(LATER)) == []
    blobs.clear(0.0)
    assert direct.parts(SHA, ALICE, handle) == {1: 5}
    blobs.clear(LATER)
    with pytest.raises(BlobError, match="does not know this upload"):
        direct.parts(SHA, ALICE, handle)
    client = s3.client()
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)
    blobs.abort(SHA, ALICE, handle)
    blobs.abort(SMALL_SHA, ALICE, "")


async def test_where_the_store_checks_no_hashes_uploads_stay_with_who_made_them(
    s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(S3Blobs, "_refuses_other_bytes", lambda _: False)
    blobs = open_blobs(s3.place(bucket), NOWHERE)
    assert blobs.direct is not None
    assert send(blobs.direct.upload(SMALL_SHA, ALICE, 3), b"bad") == 200
    assert blobs.direct.take(SMALL_SHA, ALICE) == (3, ALICE)
    assert not blobs.has(SMALL_SHA)
    await blobs.put(SMALL_SHA, pieces(SMALL))
    assert b"".join(blobs.read(SMALL_SHA)) == SMALL


@pytest.mark.parametrize("account", ["stranger", "guest"])
def test_credentials_that_may_not_are_told_at_the_start(
    s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch, account: str
) -> None:
    for name, value in s3.environment(account).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UnreachableError, match="credentials"):
        open_blobs(s3.place(bucket), NOWHERE)


def test_no_credentials_at_all(s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(UnreachableError, match="AWS_ACCESS_KEY_ID"):
        open_blobs(s3.place("some-bucket"), NOWHERE)


@pytest.mark.usefixtures("bucket")
def test_a_bucket_that_is_not_there_is_told_at_the_start(s3: S3Server) -> None:
    with pytest.raises(UnreachableError, match="no such bucket"):
        open_blobs(s3.place("another-bucket"), NOWHERE)


@pytest.mark.usefixtures("bucket")
def test_nobody_answers(s3: S3Server) -> None:
    with pytest.raises(UnreachableError, match="does not answer"):
        open_blobs(s3.place("some-bucket", "http://127.0.0.1:9"), NOWHERE)


@pytest.mark.parametrize(
    "url",
    ["s3://", "s3:///prefix", "s3://user:secret@bucket", "s3://bucket?endpiont=http://x", "s3://bucket?endpoint=x:9",
     "ftp://bucket", "s3://bucket#part"],
)  # fmt: skip
def test_urls_that_name_no_bucket(url: str) -> None:
    with pytest.raises(ArgumentError):
        open_blobs(url, NOWHERE)


@pytest.mark.usefixtures("bucket")
def test_a_coordinator_does_not_start_without_its_bucket(s3: S3Server, tmp_path: Path) -> None:
    place = s3.place("another-bucket")
    with pytest.raises(UnreachableError, match="--blobs"), data_folder(tmp_path, blobs=place):
        pass


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "boto3", None)
    with pytest.raises(ArgumentError, match=r"pip install 'ravenverse\[s3\]'"):
        open_blobs("s3://bucket", NOWHERE)


def test_the_store_of_another_maker_can_be_named_in_the_environment(
    s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAVENVERSE_S3_ENDPOINT", s3.url)
    assert not open_blobs(f"s3://{bucket}", NOWHERE).has(SHA)


@pytest.mark.usefixtures("bucket")
def test_urls_for_clients_of_aws_name_the_bucket_of_its_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere AWS would answer with a redirect, for which the signature is not good."""
    monkeypatch.setattr(S3Blobs, "check", lambda _: None)
    monkeypatch.setattr(S3Blobs, "_refuses_other_bytes", lambda _: True)
    monkeypatch.setattr(S3Blobs, "clear", lambda *_: None)
    opened = open_blobs("s3://bucket?region=eu-west-1", NOWHERE)
    assert opened.direct is not None
    assert opened.direct.download(SHA, None).startswith(f"https://bucket.s3.eu-west-1.amazonaws.com/{SHA}?")

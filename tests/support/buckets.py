"""Buckets for tests: an S3 store of its own, which is OpenStack's Swift (`s3_server`), and a bucket for each test."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import boto3
from botocore.config import Config

ACCOUNTS = {
    "owner": ("test:key", "secret"),
    "guest": ("test:guest", "guest"),
    "stranger": ("test:key", "wrong"),
}
"""Who may use the buckets, who may not, and who is somebody else."""


@dataclass(frozen=True)
class S3Server:
    """A store that answers at `url`."""

    url: str

    def environment(self, account: str = "owner") -> dict[str, str]:
        """Where AWS's tools find credentials."""
        key, secret = ACCOUNTS[account]
        return {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}

    def client(self) -> Any:
        key, secret = ACCOUNTS["owner"]
        return boto3.client(
            "s3", endpoint_url=self.url, region_name="us-east-1", config=Config(s3={"addressing_style": "path"}),
            aws_access_key_id=key, aws_secret_access_key=secret,
        )  # fmt: skip

    def bucket(self) -> str:
        """The name of a new bucket."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name)
        return name

    def place(self, bucket: str, endpoint: str | None = None) -> str:
        """What `--blobs` takes."""
        return f"s3://{bucket}/some/prefix?{urlencode({'endpoint': endpoint or self.url})}"


@contextmanager
def s3_server() -> Iterator[S3Server]:
    program = Path(__file__).with_name("s3_server.py")
    with (
        tempfile.TemporaryDirectory(prefix="raven-s3-", ignore_cleanup_errors=True) as folder,
        subprocess.Popen(
            [sys.executable, "-W", "ignore", program, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError("the S3 store of the tests did not start: its reason is above")
        try:
            yield S3Server(url)
        finally:
            process.kill()

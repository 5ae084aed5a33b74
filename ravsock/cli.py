"""The command `ravsock`, and `ravsock serve`; `token` and `db` are in `manage`, `simulate` is in a module of its name. Errors
are shown as text on standard error, with exit code 1.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import click

from ravop import logs, tracing
from ravop.errors import RavenError
from ravsock.manage import db, token
from ravsock.options import data_option, database_option, hush, size
from ravsock.server.run import Options, serve
from ravsock.simulate import simulate_command


class _Commands(click.Group):
    """Shows typed errors as people should read them."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except RavenError as error:
            click.echo(f"error: {error.problem.text()}", err=True)
            context.exit(1)


@click.group(cls=_Commands)
@click.version_option(package_name="ravenverse", prog_name="ravsock")
def main() -> None:
    """The coordinator of a Ravenverse: keeps graphs and hands their work to providers."""


@main.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=9999, show_default=True, type=click.IntRange(0, 65535), help="0: any free one."
)
@data_option(required=True)
@database_option
@click.option(
    "--quota",
    metavar="SIZE",
    callback=size,
    envvar="RAVENVERSE_QUOTA",
    show_envvar=True,
    help="Of a requester's blobs, such as 10GB, unless its token has another; default: no limit.",
)
@click.option("--embedded", is_flag=True, help="For one script: makes tokens, and ends with who started it.")
@click.option("--tls-certificate", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--blobs",
    metavar="URL",
    envvar="RAVENVERSE_BLOBS",
    show_envvar=True,
    help="Where blobs are kept: s3://bucket/prefix, or a folder; default: in the data folder.",
)
@click.option(
    "--blob-presign/--no-blob-presign",
    default=True,
    envvar="RAVENVERSE_BLOB_PRESIGN",
    show_envvar=True,
    show_default=True,
    help="With a bucket: others transfer blobs with the store itself, by URLs that are signed here.",
)
@click.option(
    "--blobs-public-endpoint",
    metavar="URL",
    envvar="RAVENVERSE_BLOBS_PUBLIC_ENDPOINT",
    show_envvar=True,
    help="Where others reach the store of the bucket, if not where the coordinator does.",
)
@click.option(
    "--advertise",
    metavar="URL",
    envvar="RAVENVERSE_ADVERTISE",
    show_envvar=True,
    help="Where other coordinators of the same database reach this one; default: where it listens.",
)
@click.option(
    "--redis-url",
    metavar="URL",
    envvar="RAVENVERSE_REDIS_URL",
    show_envvar=True,
    help="redis://host:6379: carries news between coordinators; default: PostgreSQL does.",
)
@click.option(
    "--drain-seconds",
    type=click.FloatRange(0, 3600),
    envvar="RAVENVERSE_DRAIN_SECONDS",
    show_envvar=True,
    help="With PostgreSQL: go on for so long after SIGTERM, while /api/ready says no.  [default: 5]",
)
@click.option(
    "--log-level", default="info", show_default=True, type=click.Choice(["debug", "info", "warning", "error"])
)
@click.option(
    "--log-format",
    type=click.Choice(logs.FORMATS),
    default="text",
    envvar="RAVENVERSE_LOG_FORMAT",
    show_envvar=True,
    show_default=True,
    help="json: one object a line.",
)
@click.option(
    "--metrics-public",
    is_flag=True,
    envvar="RAVENVERSE_METRICS_PUBLIC",
    show_envvar=True,
    help="/metrics for everybody who reaches the port, not only with a token of role admin.",
)
def serve_command(log_level: str, log_format: str, **options: Any) -> None:
    """Start a coordinator. Prints its URL when it listens."""
    text = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    handler = logs.formatted(logging.StreamHandler(sys.stderr), log_format, text)
    logging.basicConfig(level=log_level.upper(), handlers=[handler])
    hush()
    tracing.configure("ravsock")
    serve(Options(**options))


for command in (token, db, simulate_command):
    main.add_command(command)

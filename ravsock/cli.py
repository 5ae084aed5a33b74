"""The command `ravsock`: serve, manage tokens, look at the database and move it. Errors are shown as text on standard
error, with exit code 1.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from ravop import logs, tracing
from ravop.errors import ArgumentError, DataFolderError, RavenError
from ravop.sizes import in_words, parse_size
from ravsock.server.data import data_folder, open_store
from ravsock.server.run import Options, serve
from ravsock.simulate import simulate_command
from ravsock.store import Store, TokenRow
from ravsock.store.copying import contents, copy_blobs, copy_rows
from ravsock.store.places import open_blobs

ROLES = ["requester", "provider", "admin"]
_data = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    envvar="RAVENVERSE_DATA",
    show_envvar=True,
    help="Folder of the database and the blobs; made if needed.",
)
_database = click.option(
    "--database-url",
    envvar="RAVENVERSE_DATABASE_URL",
    show_envvar=True,
    help="postgresql://user:password@host/name; default: SQLite in the data folder.",
)


def _size(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    try:
        return None if text is None else parse_size(text)
    except ArgumentError as error:
        raise click.BadParameter(error.problem.text()) from error


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
@_data
@_database
@click.option(
    "--quota",
    metavar="SIZE",
    callback=_size,
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
    tracing.configure("ravsock")
    # uvicorn has two lines for each connection; botocore tells what signs a request
    for chatty in ("alembic", "uvicorn", "botocore", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    serve(Options(**options))


main.add_command(simulate_command)


@main.group()
def token() -> None:
    """Who may talk to the coordinator."""


@token.command("create")
@click.option("--role", type=click.Choice(ROLES), required=True)
@click.option("--name", required=True, help="Whose it is; somebody may have several.")
@click.option("--quota", metavar="SIZE", callback=_size, help="Of a requester's blobs, such as 10GB.")
@_data
@_database
def create(role: str, name: str, quota: int | None, data: Path, database_url: str | None) -> None:
    """Make a token and print it; it is not shown again."""
    with _store(data, database_url) as store:
        click.echo(store.create_token(role, name, time.time(), quota))


@token.command("list")
@click.option("--json", "as_json", is_flag=True)
@_data
@_database
def list_tokens(as_json: bool, data: Path, database_url: str | None) -> None:
    """All tokens, without their secrets, and what requesters store."""
    with _store(data, database_url) as store:
        rows = store.list_tokens()
    if as_json:
        click.echo(msgspec.json.encode(rows).decode())
        return
    for row in rows:
        click.echo(_line(row))


@token.command("revoke")
@click.argument("token", metavar="NUMBER|NAME")
@_data
@_database
def revoke(token: str, data: Path, database_url: str | None) -> None:
    """Revoke the token of this number, as `ravsock token list` shows it, or all tokens of this name."""
    with _store(data, database_url) as store:
        count = store.revoke_token(token, time.time())
    click.echo(f"{count} token{'' if count == 1 else 's'} revoked")


@token.command("quota")
@click.argument("token", metavar="NUMBER|NAME")
@click.argument("size", metavar="SIZE|default")
@_data
@_database
def quota(token: str, size: str, data: Path, database_url: str | None) -> None:
    """Let a requester store so much, such as 10GB, or (default) as much as those whose tokens say nothing of it."""
    with _store(data, database_url) as store:
        count = store.set_quota(token, None if size == "default" else parse_size(size))
    click.echo(f"{count} token{'' if count == 1 else 's'} changed")


@main.group()
def db() -> None:
    """The database."""


@db.command("check")
@_data
@_database
def check(data: Path, database_url: str | None) -> None:
    """Say what is there: version, size, rows, coordinators. Changes nothing."""
    if database_url is None:
        _check_there(data)
    with closing(open_store(data, database_url)) as store:
        found = contents(store)
    newest = "" if found.revision == found.newest else f" (this program: {found.newest})"
    click.echo(f"{found.kind}, tables of revision {found.revision or 'none'}{newest}, {in_words(found.size)}")
    for name, rows in found.rows.items():
        click.echo(f"{rows:>12,}  {name}")
    for address in found.coordinators:
        click.echo(f"coordinator at {address}")


@db.command("copy")
@_data
@click.option("--database-url", required=True, envvar="RAVENVERSE_DATABASE_URL", show_envvar=True,
              help="An empty one: postgresql://user:password@host/name.")  # fmt: skip
@click.option("--blobs", metavar="URL", envvar="RAVENVERSE_BLOBS", show_envvar=True,
              help="Copy the blobs too: to s3://bucket/prefix, or a folder; default: they stay in the data folder.")  # fmt: skip
def copy(data: Path, database_url: str, blobs: str | None) -> None:
    """Move what a data folder has to PostgreSQL, graphs that run included. No coordinator may run meanwhile.

    All rows arrive, or none; what was copied of the blobs before a cut is not copied again.
    """
    _check_there(data)
    with (
        data_folder(data) as (source, old),
        closing(Store(database_url)) as target,
    ):
        source.migrate()
        target.migrate()
        if blobs is not None:
            new = open_blobs(blobs, data)
            new.check()
            count = asyncio.run(copy_blobs(source, old, new))
            click.echo(f"{count:>12,}  blobs copied")
        for name, rows in copy_rows(source, target).items():
            click.echo(f"{rows:>12,}  {name}")
    click.echo(
        "From now on start coordinators with this --database-url (and --blobs); the old database is left as it was."
    )


def _check_there(data: Path) -> None:
    if not (data / "ravenverse.db").exists():
        raise DataFolderError("there is no database", received=data / "ravenverse.db", hint="correct --data")


@contextmanager
def _store(data: Path, database_url: str | None) -> Iterator[Store]:
    """The store, beside a coordinator that may be running."""
    data.mkdir(parents=True, exist_ok=True)
    with closing(open_store(data, database_url)) as store:
        store.migrate()
        yield store


def _line(row: TokenRow) -> str:
    made = datetime.fromtimestamp(row.created, UTC).strftime("%Y-%m-%d %H:%M")
    quota = "" if row.quota is None else f" of {in_words(row.quota)}"
    stored = f"  {in_words(row.used)}{quota} stored" if row.role == "requester" else ""
    return (
        f"{row.token_id:>5}  {row.role:<10} {made}  {row.name}{stored}{'  (revoked)' if row.revoked else ''}"
    )

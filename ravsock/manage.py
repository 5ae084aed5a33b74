"""The commands `ravsock token` and `ravsock db`: who may talk to the coordinator, and what its database holds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from rich.table import Table

from ravop.client.display import console
from ravop.errors import DataFolderError
from ravop.sizes import in_words, parse_size
from ravsock.options import data_option, database_option, hush, size
from ravsock.server.data import EMBEDDED_TOKENS, coordinator_runs, data_folder, make_folder, open_store
from ravsock.store import Store, TokenRow
from ravsock.store.copying import check_target, contents, copy_blobs, copy_rows
from ravsock.store.places import open_blobs

ROLES = ["requester", "provider", "admin"]
_data = data_option(required=False)


@click.group()
def token() -> None:
    """Who may talk to the coordinator."""


@token.command("create")
@click.option("--role", type=click.Choice(ROLES), required=True)
@click.option("--name", required=True, help="Whose it is; somebody may have several.")
@click.option("--quota", metavar="SIZE", callback=size, help="Of a requester's blobs, such as 10GB.")
@_data
@database_option
def create(role: str, name: str, quota: int | None, data: Path | None, database_url: str | None) -> None:
    """Make a token and print it; it is not shown again."""
    with _store(data, database_url) as store:
        others = sum(row.name == name and row.revoked is None for row in store.list_tokens())
        click.echo(store.create_token(role, name, time.time(), quota))
    if others:
        click.echo(
            f"note: there {'is another token' if others == 1 else f'are {others} other tokens'} named {name}; what is done "
            "by name is done to all of them, by number (see: ravsock token list) to one",
            err=True,
        )


@token.command("list")
@click.option("--json", "as_json", is_flag=True)
@_data
@database_option
def list_tokens(as_json: bool, data: Path | None, database_url: str | None) -> None:
    """All tokens, without their secrets, and what requesters store."""
    with _store(data, database_url) as store:
        rows = store.list_tokens()
    if as_json:
        click.echo(msgspec.json.encode(rows).decode())
        return
    console().print(_table(rows))


@token.command("revoke")
@click.argument("token", metavar="NUMBER|NAME")
@_data
@database_option
def revoke(token: str, data: Path | None, database_url: str | None) -> None:
    """Revoke the token of this number, as `ravsock token list` shows it, or all tokens of this name."""
    with _store(data, database_url) as store:
        count = store.revoke_token(token, time.time())
    click.echo(f"{count} token{'' if count == 1 else 's'} revoked")


@token.command("quota")
@click.argument("token", metavar="NUMBER|NAME")
@click.argument("size", metavar="SIZE|default")
@_data
@database_option
def quota(token: str, size: str, data: Path | None, database_url: str | None) -> None:
    """Let a requester store so much, such as 10GB, or (default) as much as those whose tokens say nothing of it."""
    with _store(data, database_url) as store:
        count = store.set_quota(token, None if size == "default" else parse_size(size))
    click.echo(f"{count} token{'' if count == 1 else 's'} changed")


@click.group()
def db() -> None:
    """The database."""


@db.command("check")
@_data
@database_option
def check(data: Path | None, database_url: str | None) -> None:
    """Say what is there: version, size, what it holds, coordinators. Changes nothing."""
    if database_url is None and data is not None:
        _check_there(data)
    with closing(_opened(data, database_url)) as store:
        found = contents(store)
    newest = "" if found.revision == found.newest else f" (this program: {found.newest})"
    click.echo(f"{found.kind}, tables of revision {found.revision or 'none'}{newest}, {in_words(found.size)}")
    for name, number in found.numbers.items():
        click.echo(f"{number:>12,}  {name}")
    if found.numbers:
        click.echo(f"{in_words(found.stored):>12}  in blobs")
    for address in found.coordinators:
        click.echo(f"coordinator at {address}")
    if database_url is None and data is not None:
        click.echo(f"{'a' if coordinator_runs(data) else 'no'} coordinator uses this data folder")


@db.command("copy")
@data_option(required=True)
@click.option("--database-url", required=True, envvar="RAVENVERSE_DATABASE_URL", show_envvar=True,
              help="An empty one: postgresql://user:password@host/name.")  # fmt: skip
@click.option("--blobs", metavar="URL", envvar="RAVENVERSE_BLOBS", show_envvar=True,
              help="Copy the blobs too: to s3://bucket/prefix, or a folder; default: they stay in the data folder.")  # fmt: skip
def copy(data: Path, database_url: str, blobs: str | None) -> None:
    """Move what a data folder has to PostgreSQL, graphs that run included. No coordinator may run meanwhile.

    All rows arrive, or none; what was copied of the blobs before a cut is not copied again.
    """
    hush()
    _check_there(data)
    with (
        data_folder(data) as (source, old),
        closing(Store(database_url)) as target,
    ):
        source.migrate()
        check_target(target)
        new = None if blobs is None else open_blobs(blobs, data)  # before tables are made
        target.migrate()
        if new is not None:
            new.check()
            count = asyncio.run(copy_blobs(source, old, new))
            click.echo(f"{count:>12,}  blobs copied")
        for name, rows in copy_rows(source, target).items():
            click.echo(f"{rows:>12,}  {name}")
    click.echo(
        "From now on start coordinators with this --database-url (and --blobs); the old database is left as it was."
    )
    if (data / EMBEDDED_TOKENS).exists():
        click.echo(
            f"Scripts that used the embedded cluster need its requester's token: it is in {data / EMBEDDED_TOKENS}"
        )


def _check_there(data: Path) -> None:
    if not (data / "ravenverse.db").exists():
        raise DataFolderError("there is no database", received=data / "ravenverse.db", hint="correct --data")


@contextmanager
def _store(data: Path | None, database_url: str | None) -> Iterator[Store]:
    """The store, beside a coordinator that may be running."""
    if database_url is None and data is not None:
        make_folder(data)
    with closing(_opened(data, database_url)) as store:
        store.migrate()
        yield store


def _opened(data: Path | None, database_url: str | None) -> Store:
    if database_url is not None:
        return Store(database_url)
    if data is None:
        raise click.UsageError(
            "Which database? Give --data (env var: 'RAVENVERSE_DATA') or --database-url "
            "(env var: 'RAVENVERSE_DATABASE_URL')."
        )
    return open_store(data, None)


def _table(rows: list[TokenRow]) -> Table:
    """For people."""
    table = Table("number", "role", "name", "made", "stored", "quota", "revoked")
    for row in rows:
        stores = row.role == "requester"
        quota = "default" if row.quota is None else in_words(row.quota)
        table.add_row(
            str(row.token_id), row.role, row.name, _day(row.created), in_words(row.used) if stores else "",
            quota if stores else "", _day(row.revoked),
        )  # fmt: skip
    return table


def _day(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")

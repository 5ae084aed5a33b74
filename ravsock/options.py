"""What several of the commands take: where the database is, sizes in words; and what keeps other people's libraries quiet."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ravop.errors import ArgumentError
from ravop.sizes import parse_size

Command = TypeVar("Command", bound=Callable[..., Any])
_CHATTY = ("alembic", "uvicorn", "boto3", "botocore", "s3transfer", "urllib3")
"""uvicorn has two lines for each connection; those of boto3 tell where credentials are, and what signs a request."""


def data_option(*, required: bool) -> Callable[[Command], Command]:
    """`--data`, which is optional where a database elsewhere is all that a command needs."""
    return click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        required=required,
        envvar="RAVENVERSE_DATA",
        show_envvar=True,
        help="Folder of the database and the blobs; made if needed."
        if required
        else "Folder of the database, where --database-url names no other.",
    )


database_option = click.option(
    "--database-url",
    envvar="RAVENVERSE_DATABASE_URL",
    show_envvar=True,
    help="postgresql://user:password@host/name; default: SQLite in the data folder.",
)


def size(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """The callback of an option such as `--quota 10GB`."""
    try:
        return None if text is None else parse_size(text)
    except ArgumentError as error:
        raise click.BadParameter(error.problem.text()) from error


def hush() -> None:
    """Warnings alone of libraries that tell much."""
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)

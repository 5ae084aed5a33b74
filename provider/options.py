"""Options that commands of `provider` share, checked where they are given."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from provider.settings import DEFAULT_URL, ClusterSettings, clean_name
from ravop.errors import ArgumentError
from ravop.sizes import parse_size
from ravop.transport.control import base_url


def size_option(
    flag: str, help: str, default: str | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def convert(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
        try:
            return None if text is None else parse_size(text)
        except ArgumentError as error:
            raise click.BadParameter(error.problem.text()) from error

    return click.option(flag, metavar="SIZE", default=default, show_default=True, callback=convert, help=help)


def coordinator_options(command: Callable[..., Any]) -> Callable[..., Any]:
    def check(context: click.Context, parameter: click.Parameter, url: str) -> str:
        try:
            return base_url(url)
        except ArgumentError as error:
            raise click.BadParameter(error.problem.text()) from error

    token = click.option(
        "--token",
        envvar="RAVENVERSE_TOKEN",
        show_envvar=True,
        required=True,
        help="A provider token of the coordinator.",
    )
    url = click.option(
        "--url",
        envvar="RAVENVERSE_URL",
        show_envvar=True,
        default=DEFAULT_URL,
        show_default=True,
        callback=check,
        help="The coordinator.",
    )
    return url(token(command))


def name_option(help: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option("--name", callback=lambda ctx, param, value: value and clean_name(value), help=help)


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives the command `cluster`: which one is lent, None for this machine."""

    @functools.wraps(command)
    def resolved(executor: str, dask_scheduler: str | None, ray_address: str | None, **others: Any) -> Any:
        addresses = {"dask": ("--dask-scheduler", dask_scheduler), "ray": ("--ray-address", ray_address)}
        if executor not in addresses:
            return command(cluster=None, **others)
        option, address = addresses[executor]
        if not address:
            raise click.UsageError(f"--executor {executor} needs {option} ADDRESS")
        return command(cluster=ClusterSettings(engine=executor, address=address), **others)

    ray = click.option(
        "--ray-address", metavar="ADDRESS", envvar="RAVENVERSE_RAY_ADDRESS", help="Of Ray's head."
    )
    dask = click.option(
        "--dask-scheduler", metavar="ADDRESS", envvar="RAVENVERSE_DASK_SCHEDULER", help="Of a Dask cluster."
    )
    executor = click.option(
        "--executor",
        type=click.Choice(["local", "dask", "ray"]),
        default="local",
        envvar="RAVENVERSE_EXECUTOR",
        show_default=True,
        help="What is lent: this machine, or a cluster.",
    )
    return executor(dask(ray(resolved)))


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

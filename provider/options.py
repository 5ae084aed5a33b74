"""Options that commands of `provider` share, checked where they are given."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

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
    def resolved(
        executor: str | None, dask_scheduler: str | None, ray_address: str | None, **others: Any
    ) -> Any:
        addresses = {"dask": dask_scheduler, "ray": ray_address}
        engine = _engine(executor, [name for name, address in addresses.items() if address])
        if engine == "local":
            return command(cluster=None, **others)
        address = addresses[engine]
        if not address:
            raise click.UsageError(f"--executor {engine} needs {_ADDRESSES[engine]} ADDRESS")
        return command(cluster=ClusterSettings(engine=engine, address=address), **others)

    ray = click.option(
        "--ray-address", metavar="ADDRESS", envvar="RAVENVERSE_RAY_ADDRESS", help="Of Ray's head."
    )
    dask = click.option(
        "--dask-scheduler", metavar="ADDRESS", envvar="RAVENVERSE_DASK_SCHEDULER", help="Of a Dask cluster."
    )
    executor = click.option(
        "--executor",
        type=click.Choice(["local", "dask", "ray"]),
        envvar="RAVENVERSE_EXECUTOR",
        help="What is lent: this machine, or a cluster.  [default: the cluster whose address is given, else local]",
    )
    return executor(dask(ray(resolved)))


_ADDRESSES = {"dask": "--dask-scheduler", "ray": "--ray-address"}


def _engine(executor: str | None, named: list[str]) -> str:
    """What is lent, where the clusters `named` have an address. An address from the environment may lie unused, one from
    the command line may not.
    """
    if executor is None:
        if len(named) > 1:
            raise click.UsageError(f"{' and '.join(_ADDRESSES.values())}: choose one by --executor")
        return named[0] if named else "local"
    source = click.get_current_context().get_parameter_source
    for other in named:
        if (
            other != executor
            and source(_ADDRESSES[other][2:].replace("-", "_")) is ParameterSource.COMMANDLINE
        ):
            raise click.UsageError(f"--executor {executor} and {_ADDRESSES[other]} contradict each other")
    return executor


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

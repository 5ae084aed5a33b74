"""Calls of a script in the wrong order, or to nobody: each its own error, at once."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest

import ravop as R
from ravop.errors import (
    ArgumentError,
    GraphStateError,
    NoGraphError,
    NotConnectedError,
    TokenError,
    UnreachableError,
)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port whose queue of connections is full, so that it accepts no more and refuses none: a frozen
    host.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(address)
            fillers.append(filler)
        yield address[1]
        for filler in fillers:
            filler.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


CALLS: list[Callable[[], object]] = [
    R.execute,
    R.track_progress,
    R.get_my_graphs,
    R.flush,
    lambda: R.fetch("loss"),
    lambda: R.fetch_persisting_op(op_name="loss"),
]


@pytest.mark.parametrize("call", CALLS)
def test_asking_before_initialize_starts_nothing_and_says_what_to_call(call: Callable[[], object]) -> None:
    with pytest.raises(NotConnectedError, match=r"ravop\.initialize"):
        call()


def test_activate_needs_a_graph() -> None:
    with pytest.raises(NoGraphError):
        R.activate()


@pytest.mark.parametrize("call", [R.execute, R.track_progress, lambda: R.fetch("loss")])
def test_execute_track_and_fetch_need_an_activated_graph(call: Callable[[], object]) -> None:
    R.Graph(name="early")
    with pytest.raises(GraphStateError, match=r"ravop\.activate"):
        call()


def test_ops_do_not_report_before_activate() -> None:
    R.Graph(name="early")
    op = R.t([1.0]) + 1
    for report in (op.get_output, op.get_status, op.wait_till_computed):
        with pytest.raises(GraphStateError):
            report()


def test_a_coordinator_that_does_not_listen_is_unreachable_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(UnreachableError, match="ravsock serve"):
        R.initialize("token", url=f"http://127.0.0.1:{free_port()}")
    assert time.monotonic() - started < 1.5


def test_a_host_that_keeps_silent_is_unreachable_within_seconds(silent_port: int) -> None:
    started = time.monotonic()
    with pytest.raises(UnreachableError, match="nothing within 2 s"):
        R.initialize("token", url=f"http://127.0.0.1:{silent_port}")
    assert time.monotonic() - started < 4


def test_options_of_the_embedded_cluster_do_not_go_with_a_token() -> None:
    with pytest.raises(ArgumentError, match="embedded cluster"):
        R.initialize("token", providers=3)
    with pytest.raises(ArgumentError, match="at least 1"):
        R.initialize(providers=0)


def test_a_url_needs_a_token() -> None:
    with pytest.raises(TokenError):
        R.initialize(url="http://127.0.0.1:9999")


def test_a_failed_initialize_leaves_the_script_unconnected() -> None:
    with pytest.raises(UnreachableError):
        R.initialize("token", url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(NotConnectedError):
        R.get_my_graphs()

"""Every error a user of Ravenverse can meet.

An error has a stable `code`, and says what was expected, what was received and what to do next; where a line of
the user's script is the cause, it names that line. Errors cross the network as `Problem`, a plain value, and are
raised again on the other side as the class that belongs to the code. Nothing here does I/O; everybody may import it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar

import msgspec

MAX_TEXT = 8_000


class Problem(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An error as a value: what is stored in the database and sent over the wire."""

    code: str
    message: str
    expected: str = ""
    received: str = ""
    hint: str = ""
    op: str = ""
    """The op or layer concerned, as the user named it."""
    source: str = ""
    """The user's own line: `path:line: code`."""

    def text(self) -> str:
        """The whole story on a few lines, as shown to people."""
        lines = [self.message]
        details = (
            ("expected", self.expected),
            ("received", self.received),
            ("op", self.op),
            ("your line", self.source),
            ("what to do", self.hint),
        )
        lines += [f"  {label}: {value}" for label, value in details if value]
        return "\n".join(lines)


class RavenError(Exception):
    """Base of all errors raised on purpose. `problem` holds the details as a value."""

    code: ClassVar[str] = "error"

    def __init__(
        self,
        message: str,
        *,
        expected: object = "",
        received: object = "",
        hint: str = "",
        op: str = "",
        source: str = "",
    ) -> None:
        self.problem = Problem(
            code=self.code,
            message=message[:MAX_TEXT],
            expected=str(expected)[:MAX_TEXT],
            received=str(received)[:MAX_TEXT],
            hint=hint[:MAX_TEXT],
            op=op[:MAX_TEXT],
            source=source[:MAX_TEXT],
        )
        super().__init__(self.problem.text())

    def __reduce__(self) -> tuple[object, ...]:
        return error_from_problem, (self.problem,)


class ShapeError(RavenError, ValueError):
    """Shapes that do not fit the op they are given to."""

    code = "shape"


class DTypeError(RavenError, TypeError):
    """A dtype, or a kind of value, that the op does not take."""

    code = "dtype"


class ArgumentError(RavenError, ValueError):
    """An argument out of its range, or data that cannot be trained on (empty batch, X and y of different length)."""

    code = "argument"


class NoGraphError(RavenError, RuntimeError):
    """An op was made while no graph is being defined."""

    code = "no_graph"


class GraphStateError(RavenError, RuntimeError):
    """The graph is in a state that does not allow this (op after activate, execute before activate, …)."""

    code = "graph_state"


class ScopeError(RavenError, RuntimeError):
    """An op of another graph, or of a scan body that is already closed, was used."""

    code = "scope"


class GradientError(RavenError, ValueError):
    """No gradient: an operator without a rule, or no differentiable path."""

    code = "gradient"


class DuplicateNameError(RavenError, ValueError):
    """A persisted name was used twice in one graph."""

    code = "duplicate_name"


class UnknownNameError(RavenError, KeyError):
    """No op is persisted under this name."""

    code = "unknown_name"

    def __str__(self) -> str:  # KeyError would show the repr
        return self.problem.text()


class NotComputedError(RavenError, LookupError):
    """The op is persisted, but its value is not computed yet."""

    code = "not_computed"


class UnknownGraphError(RavenError, LookupError):
    """No such graph, or it belongs to somebody else (the two are not told apart)."""

    code = "unknown_graph"


class GraphFailedError(RavenError, RuntimeError):
    """The graph failed; the problem holds the provider's error, the op and the user's line."""

    code = "graph_failed"


class GraphCancelledError(RavenError, RuntimeError):
    """The graph was cancelled."""

    code = "graph_cancelled"


class TokenError(RavenError, PermissionError):
    """The token is missing, unknown or revoked."""

    code = "token"


class RoleError(RavenError, PermissionError):
    """The token is good, but its role may not do this."""

    code = "role"


class UnreachableError(RavenError, ConnectionError):
    """The coordinator does not answer."""

    code = "unreachable"


class NotConnectedError(RavenError, RuntimeError):
    """Something was asked of the coordinator before `ravop.initialize()`."""

    code = "not_connected"


class WaitTimeoutError(RavenError, TimeoutError):
    """What was waited for did not come within the time that the caller allowed."""

    code = "timeout"


class VersionError(RavenError, RuntimeError):
    """Two programs of versions that do not understand each other, or a database newer than the program."""

    code = "version"


class MessageError(RavenError, ValueError):
    """A message that is malformed, too large or of the wrong shape."""

    code = "message"


class InvalidModelError(RavenError, ValueError):
    """An ONNX model that is refused: malformed, oversized, external data, foreign domain."""

    code = "invalid_model"


class UnsupportedOnnxError(RavenError, ValueError):
    """An ONNX file whose nodes cannot be imported; names them one by one."""

    code = "unsupported_onnx"


class BlobError(RavenError, ValueError):
    """Bytes that do not match their name, or that are missing."""

    code = "blob"


class ForbiddenBlobError(RavenError, PermissionError):
    """The blob is not one that this token may read."""

    code = "forbidden_blob"


class StorageFullError(RavenError, OSError):
    """The coordinator cannot store more."""

    code = "storage_full"


class QuotaError(RavenError, PermissionError):
    """The requester's blobs would take more of the coordinator's storage than it may have."""

    code = "quota"


class ClusterError(RavenError, RuntimeError):
    """The cluster that a provider lends does not answer, or cannot compute."""

    code = "cluster"


class PortTakenError(RavenError, OSError):
    """The port to listen on is in use."""

    code = "port_taken"


class AlreadyRunningError(RavenError, RuntimeError):
    """A provider of this name runs on this machine."""

    code = "already_running"


class NotRunningError(RavenError, RuntimeError):
    """No provider, or none of this name, runs on this machine."""

    code = "not_running"


class DataFolderError(RavenError, OSError):
    """Another coordinator uses the data folder, or it cannot be used at all."""

    code = "data_folder"


class ComputeError(RavenError, RuntimeError):
    """The engine refused or failed to compute a subgraph."""

    code = "compute"


class OutOfMemoryError(ComputeError):
    """The subgraph needed more memory than the provider offers."""

    code = "out_of_memory"


class CrashedError(ComputeError):
    """The process that computed the subgraph died."""

    code = "crashed"


class DeadlineError(ComputeError):
    """The subgraph took longer than its lease."""

    code = "deadline"


def did_you_mean(name: str, names: Iterable[str], prefix: str = "") -> str:
    """A question for whoever wrote a name that is none; empty where none of `names` is like it."""
    near = difflib.get_close_matches(name, list(names), n=3)
    return f"did you mean {' or '.join(prefix + one for one in near)}?" if near else ""


def _by_code(cls: type[RavenError]) -> dict[str, type[RavenError]]:
    """Of classes that share a code, such as a part's own subclass, the one above the others."""
    found: dict[str, type[RavenError]] = {}
    for child in cls.__subclasses__():
        found |= _by_code(child)
    return found | {cls.code: cls}


def codes() -> frozenset[str]:
    """Of all errors that this version knows."""
    return frozenset(_by_code(RavenError))


def error_from_problem(problem: Problem) -> RavenError:
    """The exception that belongs to `problem.code`; a plain `RavenError` for a code this version does not know."""
    error = _by_code(RavenError).get(problem.code, RavenError)(
        problem.message,
        expected=problem.expected,
        received=problem.received,
        hint=problem.hint,
        op=problem.op,
        source=problem.source,
    )
    error.problem = problem
    return error

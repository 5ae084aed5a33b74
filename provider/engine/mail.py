"""`WorkerMail`: the worker's end of the exchange with other ranks; the daemon passes its messages on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from provider.mailbox import Mailbox
from provider.wire import Arrived, Broken, Sending, Sent, Taken, ToWorker
from ravop.errors import MessageError, error_from_problem


class WorkerMail:
    """The mail of one run.

    Args:
        tell: sends the daemon a word.
        hear: waits for the daemon's next one.
    """

    def __init__(
        self, box: Mailbox, tell: Callable[[Sending | Taken], None], hear: Callable[[], ToWorker]
    ) -> None:
        self._box = box
        self._tell = tell
        self._hear = hear
        self._free = True
        """Whether the last message to others is on its way."""
        self._arrived: dict[int, int] = {}
        """Bytes of the messages that are in the mailbox, by rank."""

    def send(self, ranks: Sequence[int], payload: Sequence[memoryview]) -> None:
        while not self._free:
            self._wait()
        self._free = False
        self._tell(Sending(ranks=tuple(ranks), size=self._box.put(payload)))

    def receive(self, rank: int) -> bytearray:
        while rank not in self._arrived:
            self._wait()
        payload = bytearray(self._box.incoming[rank][: self._arrived.pop(rank)])
        self._tell(Taken(rank=rank))
        return payload

    def _wait(self) -> None:
        """Take in the daemon's next word. Raises what broke the exchange off."""
        match self._hear():
            case Sent():
                self._free = True
            case Arrived(rank=rank, size=size):
                self._arrived[rank] = size
            case Broken(problem=problem):
                raise error_from_problem(problem)
            case other:
                raise MessageError("the daemon interrupts a run", received=type(other).__name__)

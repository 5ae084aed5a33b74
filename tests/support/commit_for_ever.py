"""Runs a long loop chunk by chunk in the database named on the command line, saying `N` when N steps are
acknowledged.

A test kills it in the middle.
"""

from __future__ import annotations

import sys

from plans import Bench, training

from ravsock.store import Store


def main(url: str, length: int) -> None:
    store = Store(url)
    store.migrate()
    bench, case = Bench(store), training(length)
    bench.start(case, "g")
    for steps in range(1, length + 1):
        outcome = bench.step(case, chunk=1)
        assert outcome is not None
        assert outcome.accepted
        print(steps, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

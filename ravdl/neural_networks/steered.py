"""A run whose course callbacks change: the loop over epochs, with what they remember carried along."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

import ravop as R
from ravdl.neural_networks.callbacks.steering import Seen, Steering
from ravop.graph import Op, tree
from ravop.graph.tree import Tree

S = TypeVar("S", bound=Any)
"""A `State`, or what a strategy has for it: with `weights` and `rate`."""
Epoch = Callable[[S], tuple[S, Any]]
"""→ the state after it, and (measures of batches, of the last batch, means)."""


class Course(NamedTuple):
    """What is carried beside the state."""

    epoch: Op
    """int64 scalar: epochs done."""
    stopped: Op
    """Boolean scalar."""
    memories: tuple[Tree, ...]
    shown: dict[str, Op]
    """What was measured last, float32 scalars by name: what is shown of epochs that were left out. NaN would look like a
    training, or a machine, gone wrong.
    """


class Ended(NamedTuple):
    """What a steered run gives."""

    state: Any
    measured: tuple[Any, Any, Any]
    """Of batches, of the last batch, and means, stacked over the epochs."""
    ran: Op
    """(epochs,), float32: 1 for each that was run, 0 after the end."""
    memories: tuple[Tree, ...]


def steer(
    epoch: Epoch[S],
    state: S,
    steering: Sequence[Steering],
    n_epochs: int,
    names: Sequence[str],
    lazy: bool,
    learning_rate: float | None,
) -> Ended:
    """Run epochs until one of `steering` says to stop.

    `names`: of the means over an epoch.
    `lazy`: the steps after that are left out, by a branch around each epoch; else they are computed, and dropped.
    `learning_rate`: is measured with what it is multiplied by, where it is a number.
    """
    may_stop = any(each.stops for each in steering)
    forms: list[Any] = []

    def work(carry: tuple[S, Course]) -> tuple[tuple[S, Course], Any]:
        before, course = carry
        number = course.epoch + 1
        rates = [each.rate(memory, number) for each, memory in zip(steering, course.memories, strict=True)]
        rate = _product([one for one in rates if one is not None])
        after, (measured, last, means) = epoch(before if rate is None else before._replace(rate=rate))
        after = after._replace(rate=None)
        if rate is not None and learning_rate is not None:
            means = means | {"learning_rate": rate * learning_rate}
        seen = Seen(number, means, after.weights)
        verdicts = [each.after(m, seen) for each, m in zip(steering, course.memories, strict=True)]
        undo = _any([verdict.undo for verdict in verdicts])
        stop = _any([verdict.stop for verdict in verdicts])
        after = after if undo is None else select(undo, before, after)
        stopped = course.stopped if stop is None else R.logical_or(course.stopped, stop)
        ys = (measured, last, means, R.t(np.array(1, np.float32)))
        forms.append(ys)
        shown = {name: means[name] for name in course.shown}
        return (after, Course(number, stopped, tuple(v.memory for v in verdicts), shown)), ys

    def skip(carry: tuple[S, Course]) -> tuple[tuple[S, Course], Any]:
        *measured, _ = forms[-1]
        none = R.t(np.array(0, np.float32))
        again = [
            {
                name: R.broadcast_to(carry[1].shown.get(name, none), op.static_shape)
                for name, op in values.items()
            }
            for values in measured
        ]
        return carry, (*again, none)

    def body(carry: tuple[S, Course], _: None) -> tuple[tuple[S, Course], Any]:
        if not may_stop:
            return work(carry)
        stopped = carry[1].stopped
        if lazy:
            found: tuple[tuple[S, Course], Any] = R.cond(R.logical_not(stopped), work, skip, carry)
            return found
        done = work(carry)
        kept: tuple[tuple[S, Course], Any] = select(stopped, skip(carry), done)
        return kept

    memories = tuple(each.begin(state.weights) for each in steering)
    nothing = {name: R.t(np.array(0, np.float32)) for name in names if may_stop}
    course = Course(R.t(np.array(0, np.int64)), R.t(np.array(False)), memories, nothing)
    (state, course), (measured, last, means, ran) = R.scan(body, (state, course), length=n_epochs)
    for each, memory in zip(steering, course.memories, strict=True):
        state = state._replace(weights=each.final(memory, state.weights))
    return Ended(state, (measured, last, means), ran, course.memories)


def select(which: Op, yes: Any, no: Any) -> Any:
    """One of two trees of one form."""
    pairs = zip(tree.leaves(yes), tree.leaves(no), strict=True)
    return tree.rebuild(no, iter([a if a is b else R.where(which, a, b) for a, b in pairs]))


def _product(rates: list[Op]) -> Op | None:
    found = None
    for rate in rates:
        found = rate if found is None else found * rate
    return found


def _any(flags: list[Op | None]) -> Op | None:
    found = None
    for flag in flags:
        if flag is not None:
            found = flag if found is None else R.logical_or(found, flag)
    return found

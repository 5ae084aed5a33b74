"""Clusters a weighted DAG into groups of about one unit of work, such that the groups are a DAG again.

Knows nothing of ONNX: items are numbers, weights are seconds. Fixed items stay alone. Every merge keeps the groups
acyclic by construction, so each group is convex. Near-linear: rounds over the groups left, fewer in each.

The rules of merging, each safe for all its merges in one round (levels are longest paths in hops, see Herrmann et al.,
"Multilevel algorithms for acyclic partitioning of directed acyclic graphs", 2019):
chains: the only successor with its only predecessor; down: an item into its only predecessor on the level above;
up: the same from the other end; siblings: items of one level.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

CAP = 1.5
"""Units of work that a group may grow to."""
FLOOR = 0.5
"""Up to this many units, groups are merged even where that takes parallelism away."""
TRIFLE = 1.25
"""A group may grow to so many times its largest item, whatever the cap."""
PATIENCE = 0.5
"""Units of time that merging may make a group wait."""
HOP_SECONDS = 0.05
"""What it costs to hand a value from one unit to another, besides its bytes."""
WIRE = 100e6
"""Bytes per second from one provider to another, assumed."""
MAX_ROUNDS = 60


class Edge(NamedTuple):
    source: int
    target: int
    bytes: int


def cluster(
    weights: Sequence[float], fixed: Sequence[bool], edges: Sequence[Edge], unit: float
) -> list[list[int]]:
    """Groups of items, each sorted, in an order in which the groups can run.

    `unit`: seconds that a group should be worth; 0 leaves every item alone.
    """
    groups = _Groups(weights, fixed, edges)
    if unit > 0:
        if not any(fixed) and sum(weights) <= CAP * unit:
            return [list(range(len(weights)))] if weights else []
        merger = _Merger(groups, unit)
        for _ in range(MAX_ROUNDS):
            if not merger.round():
                break
    return [groups.members[group] for group in groups.in_order()]


class _Groups:
    """The groups, called by the number of one of their items, and the edges between them."""

    def __init__(self, weights: Sequence[float], fixed: Sequence[bool], edges: Sequence[Edge]) -> None:
        self.weight = dict(enumerate(weights))
        self.core = dict(self.weight)
        """The largest item's weight."""
        self.fixed = fixed
        self.members = {index: [index] for index in self.weight}
        self.after: dict[int, dict[int, int]] = {index: {} for index in self.weight}
        """Group → its successors → bytes that flow there."""
        self.before: dict[int, dict[int, int]] = {index: {} for index in self.weight}
        for source, target, size in edges:
            self.after[source][target] = self.before[target][source] = (
                self.after[source].get(target, 0) + size
            )

    def merge(self, first: int, second: int) -> int:
        """Make the two one group. → its name."""
        keep, drop = first, second
        if len(self.members[drop]) + len(self.after[drop]) + len(self.before[drop]) > (
            len(self.members[keep]) + len(self.after[keep]) + len(self.before[keep])
        ):
            keep, drop = drop, keep
        for forward, backward in ((self.after, self.before), (self.before, self.after)):
            for other, size in forward.pop(drop).items():
                del backward[other][drop]
                if other != keep:
                    forward[keep][other] = backward[other][keep] = forward[keep].get(other, 0) + size
        self.weight[keep] += self.weight.pop(drop)
        self.core[keep] = max(self.core[keep], self.core.pop(drop))
        self.members[keep] += self.members.pop(drop)
        return keep

    def in_order(self) -> list[int]:
        """All groups in an order in which they can run, the earliest items first; each group's items sorted."""
        for items in self.members.values():
            items.sort()
        missing = {group: len(before) for group, before in self.before.items()}
        ready = [(self.members[group][0], group) for group, count in missing.items() if not count]
        heapq.heapify(ready)
        order = []
        while ready:
            _, group = heapq.heappop(ready)
            order.append(group)
            for other in self.after[group]:
                missing[other] -= 1
                if not missing[other]:
                    heapq.heappush(ready, (self.members[other][0], other))
        return order


class _Merger:
    def __init__(self, groups: _Groups, unit: float) -> None:
        self._groups = groups
        self._unit = unit

    def round(self) -> bool:
        """Merge once by every rule. → whether anything was merged."""
        merged = [
            self._chains(),
            self._into_neighbours(down=True),
            self._into_neighbours(down=False),
            self._siblings(),
        ]
        return any(merged)

    def _chains(self) -> bool:
        groups, changed = self._groups, False
        for group in list(groups.weight):
            while group in groups.weight and len(groups.after[group]) == 1:
                (other,) = groups.after[group]
                if len(groups.before[other]) != 1 or not self._fits(group, other):
                    break
                group = groups.merge(group, other)
                changed = True
        return changed

    def _into_neighbours(self, down: bool) -> bool:
        """Merge groups into their only neighbour one level nearer to the start (`down`), or to the end.

        A group that was merged takes no others in during this round.
        """
        times = _Times(self._groups)
        level, near_side = (times.level, times.before) if down else (times.height, times.after)
        merged: set[int] = set()
        stars: dict[int, int] = {}
        """What a group that took others in is called now."""
        for group in times.order if down else reversed(times.order):
            nearer = [other for other in near_side[group] if level[other] == level[group] - 1]
            if len(nearer) != 1 or group in stars or nearer[0] in merged:
                continue
            centre = stars.get(nearer[0], nearer[0])
            pair = (nearer[0], group) if down else (group, nearer[0])
            if self._fits(centre, group) and self._good(*pair, centre, group, times):
                merged.add(group)
                stars[nearer[0]] = self._groups.merge(centre, group)
        return bool(merged)

    def _siblings(self) -> bool:
        """Merge small groups of one level that start at about the same time, those with common neighbours first."""
        groups, times, changed = self._groups, _Times(self._groups), False
        rows: dict[int, list[int]] = {}
        for group in times.order:
            if groups.weight[group] < FLOOR * self._unit and not groups.fixed[group]:
                rows.setdefault(times.level[group], []).append(group)
        for row in rows.values():
            row.sort(
                key=lambda g: (
                    min(times.before[g], default=-1),
                    min(times.after[g], default=-1),
                    times.start[g],
                    g,
                )
            )
            kept, since = row[0], times.start[row[0]]
            for group in row[1:]:
                light = groups.weight[kept] + groups.weight[group] <= FLOOR * self._unit
                if light and abs(times.start[group] - since) <= PATIENCE * self._unit:
                    kept, changed = groups.merge(kept, group), True
                else:
                    kept, since = group, times.start[group]
        return changed

    def _fits(self, first: int, second: int) -> bool:
        groups = self._groups
        if groups.fixed[first] or groups.fixed[second]:
            return False
        weight = groups.weight[first] + groups.weight[second]
        return weight <= max(CAP * self._unit, TRIFLE * max(groups.core[first], groups.core[second]))

    def _good(self, source: int, target: int, centre: int, group: int, times: _Times) -> bool:
        """Whether joining the ends of an edge gains more than it delays. `centre` and `group` are what they are by now."""
        weights = (self._groups.weight[centre], self._groups.weight[group])
        others = [
            times.finish[p] + times.hop(size) for p, size in times.before[target].items() if p != source
        ]
        start = max([times.start[source], *others])
        if len(times.after[source]) > 1 and start - times.start[source] > PATIENCE * self._unit:
            return False
        dear_to_move = times.hop(times.after[source][target]) >= min(weights) + HOP_SECONDS
        if sum(weights) <= FLOOR * self._unit or dear_to_move:
            return True
        beyond = [
            times.below[s] + times.hop(size)
            for end in (source, target)
            for s, size in times.after[end].items()
            if s != target
        ]
        return start + sum(weights) + max(beyond, default=0.0) <= times.span * (1 + 1e-9)


class _Times:
    """When each group could start with a provider for each, and how long the way to the end is; as the groups are now."""

    def __init__(self, groups: _Groups) -> None:
        self.before = {group: dict(others) for group, others in groups.before.items()}
        self.after = {group: dict(others) for group, others in groups.after.items()}
        self.order = groups.in_order()
        self.level: dict[int, int] = {}
        """The longest way from a beginning, in hops; `height`: to an end."""
        self.height: dict[int, int] = {}
        self.start: dict[int, float] = {}
        self.finish: dict[int, float] = {}
        self.below: dict[int, float] = {}
        for group in self.order:
            before = self.before[group]
            self.level[group] = 1 + max((self.level[p] for p in before), default=-1)
            self.start[group] = max(
                (self.finish[p] + self.hop(size) for p, size in before.items()), default=0.0
            )
            self.finish[group] = self.start[group] + groups.weight[group]
        for group in reversed(self.order):
            after = self.after[group]
            self.height[group] = 1 + max((self.height[s] for s in after), default=-1)
            beyond = max((self.below[s] + self.hop(size) for s, size in after.items()), default=0.0)
            self.below[group] = groups.weight[group] + beyond
        self.span = max(self.finish.values(), default=0.0)

    @staticmethod
    def hop(size: int) -> float:
        return HOP_SECONDS + size / WIRE

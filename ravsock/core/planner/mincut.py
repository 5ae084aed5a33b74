"""The cheapest cut of a small network, by maximum flow (Dinic, "Algorithm for solution of a problem of maximum flow in
networks with power estimation", 1970). Knows nothing of graphs and gangs: vertices are numbers, 0 is the source and 1 the
sink."""

from __future__ import annotations

import math
from collections import deque

SOURCE, SINK = 0, 1
_NOTHING = 1e-12


class Network:
    def __init__(self) -> None:
        self._edges: list[list[int]] = [[], []]
        self._heads: list[int] = []
        self._room: list[float] = []

    def vertex(self) -> int:
        self._edges.append([])
        return len(self._edges) - 1

    def edge(self, tail: int, head: int, capacity: float) -> None:
        for end, other, room in ((tail, head, capacity), (head, tail, 0.0)):
            self._edges[end].append(len(self._heads))
            self._heads.append(other)
            self._room.append(room)

    def source_side(self) -> set[int]:
        """The vertices on the source's side of a cheapest cut: as few as possible."""
        while (level := self._levels())[SINK] >= 0:
            self._block(level)
        return {vertex for vertex, depth in enumerate(level) if depth >= 0}

    def _levels(self) -> list[int]:
        level = [-1] * len(self._edges)
        level[SOURCE] = 0
        queue = deque([SOURCE])
        while queue:
            vertex = queue.popleft()
            for edge in self._edges[vertex]:
                head = self._heads[edge]
                if level[head] < 0 and self._room[edge] > _NOTHING:
                    level[head] = level[vertex] + 1
                    queue.append(head)
        return level

    def _block(self, level: list[int]) -> None:
        """Push flow along ways of growing level until none is left."""
        following = [0] * len(self._edges)
        way: list[int] = []
        vertex = SOURCE
        while True:
            if vertex == SINK:
                flow = min(self._room[edge] for edge in way)
                if math.isinf(flow):
                    raise ValueError("a network without a finite cut")
                for edge in way:
                    self._room[edge] -= flow
                    self._room[edge ^ 1] += flow
                way, vertex = [], SOURCE
                continue
            edges = self._edges[vertex]
            while following[vertex] < len(edges):
                edge = edges[following[vertex]]
                if self._room[edge] > _NOTHING and level[self._heads[edge]] == level[vertex] + 1:
                    break
                following[vertex] += 1
            else:
                if not way:
                    return
                vertex = self._heads[way.pop() ^ 1]
                following[vertex] += 1
                continue
            way.append(edge)
            vertex = self._heads[edge]

"""Keys of random ops: a pure function of the graph's seed, the op's number, and the iterations of the loops around it.

A key is two words of 32 bits. Each op has a constant of its own; each loop has, once per iteration, a key mixed from the
key of the scope around it and its iteration; an op's key is the two combined. A function gets its key from its caller.
Only `ravop.ops.randomness` and `ravop.graph.control` use this.
"""

from __future__ import annotations

import numpy as np

from ravop.graph.dtypes import to_ir
from ravop.graph.graph import Graph
from ravop.graph.op import Op
from ravop.graph.scope import Scope
from ravop.protocol.tensors import Array

KEY = np.dtype(np.uint32)
KEY_WORDS = 2

_BITS = 0xFFFF_FFFF_FFFF_FFFF
_STEPS = np.array([0x9E37_79B1, 0x85EB_CA77], dtype=np.uint32)
"""Odd, so that iterations times them stay different; one for each word (from xxHash)."""
_MIX = 0x7FEB_352D


def draw_key(graph: Graph) -> Op:
    """The key, uint32[2], of a new random op of the current scope."""
    graph.draws += 1
    own = _words(graph.seed, graph.draws)
    around = _scope_key(graph, graph.scope)
    if around is None:
        return graph.constant(own)
    return graph.apply("BitwiseXor", [around, graph.constant(own)])[0]


def step_key(graph: Graph, seed: int, number: int, step: Op) -> Op:
    """A key that depends on these alone: not on the graph, nor on the loops around it. `step` is an int64 scalar."""
    return _mixed(graph, graph.constant(_words(seed, number)), step)


call_key = draw_key
"""The key that a call gives to a function with random ops: a draw like any other."""


def _words(seed: int, number: int) -> Array:
    """SplitMix64 (Steele, Lea, Flood 2014) of seed and number, as two words."""
    word = ((seed & _BITS) + number * 0x9E37_79B9_7F4A_7C15) & _BITS
    for shift, factor in ((30, 0xBF58_476D_1CE4_E5B9), (27, 0x94D0_49BB_1331_11EB)):
        word = ((word ^ (word >> shift)) * factor) & _BITS
    word ^= word >> 31
    return np.array([word & 0xFFFF_FFFF, word >> 32], dtype=KEY)


def _scope_key(graph: Graph, scope: Scope) -> Op | None:
    """The key of a scope at its present iteration, made once in it; None for the main graph."""
    if scope.key is not None or scope.parent is None:
        return scope.key
    counter = scope.iteration
    if scope.is_function:
        scope.key = counter
    elif counter is None:  # a branch
        return _scope_key(graph, scope.parent)
    else:
        around = _scope_key(graph, scope.parent)
        with graph.reopen(scope):
            scope.key = _mixed(graph, around, counter)
    return scope.key


def _mixed(graph: Graph, around: Op | None, iteration: Op) -> Op:
    (number,) = graph.apply("Cast", [iteration], {"to": int(to_ir(KEY))})
    (word,) = graph.apply("Mul", [number, graph.constant(_STEPS)])
    if around is not None:
        (word,) = graph.apply("BitwiseXor", [word, around])
    (word,) = graph.apply("Mul", [word, graph.constant(np.array([_MIX], dtype=KEY))])
    shift = graph.constant(np.array([16], dtype=KEY))
    (high,) = graph.apply("BitShift", [word, shift], {"direction": "RIGHT"})
    return graph.apply("BitwiseXor", [word, high])[0]

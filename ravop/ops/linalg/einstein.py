"""Einstein's summation."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ravop.errors import ArgumentError, DTypeError, ShapeError
from ravop.graph.equations import is_equation
from ravop.graph.infer import Dim
from ravop.graph.op import Op, Operand
from ravop.ops.catalogue import common, exact, integers, node, operator
from ravop.ops.shaping import broadcast_to

__all__ = ["einsum"]


@operator
def einsum(equation: str, *operands: Operand) -> Op:
    """Einstein's summation, as `numpy.einsum`: over the indices that the output has not, or without `->` over those that are
    there twice; `...` stands for further axes, which broadcast.

    Raises `ArgumentError` for an equation that is none, `ShapeError` where it does not fit the operands.

    Example:
        >>> R.einsum("ij,j->i", [[1, 2], [3, 4]], [1, 10])
        [21, 43]
    """
    if not isinstance(equation, str):
        raise DTypeError(
            "einsum's first argument is its equation", expected="a text", received=repr(equation)
        )
    ops = common(*operands)
    terms, output = _parsed(equation)
    if len(terms) != len(ops):
        raise ArgumentError(
            "einsum needs an operand for each term",
            expected=f"{len(terms)} for {equation!r}",
            received=len(ops),
        )
    sizes = _sizes(terms, ops)
    hidden = max(
        (op.ndim - len(term) + 3 for term, op in zip(terms, ops, strict=True) if "..." in term), default=0
    )
    ops = tuple(_broadcast(term, op, sizes, hidden) for term, op in zip(terms, ops, strict=True))
    return exact("Einsum", ops, equation=f"{','.join(terms)}->{output}")


def _parsed(equation: str) -> tuple[list[str], str]:
    """The terms, and the output, which is made where the equation has none."""
    text = re.sub(r"\s", "", equation)
    if not is_equation(text):
        raise ArgumentError(
            "this is no equation of einsum",
            expected="letters, at most one ... in each term, and at most one ->, as 'ij,jk->ik'",
            received=repr(equation),
        )
    left, arrow, output = text.partition("->")
    if not arrow:
        once = sorted(letter for letter in set(left) - {",", "."} if left.count(letter) == 1)
        output = ("..." if "..." in left else "") + "".join(once)
    letters = output.replace("...", "")
    if len(set(letters)) < len(letters) or not set(letters) <= set(left):
        raise ArgumentError(
            "einsum's output has each index once, of those that its operands have",
            expected=f"different letters of {left!r}",
            received=repr(output),
        )
    if "..." in left and "..." not in output:
        raise ArgumentError(
            "einsum does not sum over what ... stands for",
            expected="... in the output",
            received=repr(output),
        )
    return left.split(","), output if "..." in left else letters


def _sizes(terms: Sequence[str], ops: Sequence[Op]) -> dict[str, Dim]:
    """The length of each index. Raises `ShapeError` for two that are not the same, nor 1."""
    sizes: dict[str, Dim] = {}
    for term, op in zip(terms, ops, strict=True):
        letters = term.replace("...", "")
        if len(letters) > op.ndim or ("..." not in term and len(letters) != op.ndim):
            raise ShapeError(f"the term {term!r} does not fit its operand", expected=f"{len(letters)} axes",
                             received=list(op.shape))  # fmt: skip
        for letter, axis in _axes(term, op).items():
            size, known = op.shape[axis], sizes.get(letter, 1)
            if isinstance(size, int) and isinstance(known, int) and size != known and 1 not in (size, known):
                raise ShapeError(f"the index {letter!r} has different lengths", expected=known, received=size)
            sizes[letter] = size if known == 1 else known
    return sizes


def _axes(term: str, op: Op) -> dict[str, int]:
    """Which axis each letter of the term names, the last one for a letter that is there twice."""
    front, _, back = term.partition("...")
    return {**{letter: axis for axis, letter in enumerate(front)},
            **{letter: op.ndim - len(back) + place for place, letter in enumerate(back)}}  # fmt: skip


def _broadcast(term: str, op: Op, sizes: dict[str, Dim], hidden: int) -> Op:
    """`op` with as many axes for `...` as any operand has, and the axes of length 1 of its letters as long as the others'.

    Engines do not broadcast the first, and their results differ for the second.
    """
    if "..." in term:
        lacking = hidden - (op.ndim - len(term) + 3)
        start = term.index("...")
        op = node("Unsqueeze", [op, integers(op, range(start, start + lacking))]) if lacking else op
    wanted = list(op.shape)
    for letter, axis in _axes(term, op).items():
        if wanted[axis] == 1 and term.count(letter) == 1:
            wanted[axis] = sizes[letter]
    if tuple(wanted) == op.shape or not all(isinstance(size, int) for size in wanted):
        return op
    return broadcast_to(op, [size for size in wanted if isinstance(size, int)])

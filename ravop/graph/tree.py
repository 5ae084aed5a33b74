"""Trees of leaves: what loops and functions take and give. A tree is None, a leaf, or a tuple, named
tuple, list or dict of trees.

Everybody may use it. What a leaf is (an op, an array, a number) is the caller's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Tree = Any
"""None, a leaf, or a tuple, list or dict of trees."""


def leaves(tree: Tree) -> list[Any]:
    """The leaves from left to right; those of a dict in the order of its keys' text, so that its own order does not matter."""
    return [leaf for _, leaf in paths(tree)]


def paths(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(where it is, leaf) for each leaf, such as `("['w'][0]", leaf)`."""
    if tree is None:
        return
    if isinstance(tree, dict):
        for key in sorted(tree, key=str):
            yield from paths(tree[key], f"{prefix}[{key!r}]")
    elif isinstance(tree, list | tuple):
        for position, child in enumerate(tree):
            yield from paths(child, f"{prefix}[{position}]")
    else:
        yield prefix, tree


def rebuild(tree: Tree, new_leaves: Iterator[Any]) -> Tree:
    """A tree of the same form with other leaves."""
    if tree is None:
        return None
    if isinstance(tree, dict):
        built = {key: rebuild(tree[key], new_leaves) for key in sorted(tree, key=str)}
        return {key: built[key] for key in tree}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(rebuild(child, new_leaves) for child in tree))
    if isinstance(tree, list | tuple):
        return type(tree)(rebuild(child, new_leaves) for child in tree)
    return next(new_leaves)


def form(tree: Tree) -> str:
    """The tree's form with `*` for leaves; equal for trees of equal form."""
    if tree is None:
        return "None"
    if isinstance(tree, dict):
        return (
            "{"
            + ", ".join(f"{key!r}: {form(child)}" for key, child in sorted(tree.items(), key=_text_of_key))
            + "}"
        )
    if isinstance(tree, list | tuple):
        inner = ", ".join(form(child) for child in tree)
        return f"[{inner}]" if isinstance(tree, list) else f"({inner})"
    return "*"


def _text_of_key(item: tuple[Any, Any]) -> str:
    return str(item[0])

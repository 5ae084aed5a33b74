"""Einsum's equations, looked at before ONNX sees them: its shape inference never returns from some that are malformed."""

from __future__ import annotations


def is_equation(text: str) -> bool:
    """Whether `text` is made of terms of letters, each with at most one `...`, and at most one `->`. Spaces do not count."""
    left, _, output = "".join(text.split()).partition("->")
    rests = (term.replace("...", "", 1) for term in [*left.split(","), output])
    return all(not rest or (rest.isascii() and rest.isalpha()) for rest in rests)

"""How much of an ONNX model is accepted, and which operators never. Tables only; `structure` and `check` apply them."""

from __future__ import annotations

import msgspec

from ravop.errors import InvalidModelError
from ravop.graph.infer import MAX_DIM as MAX_DIM
from ravop.graph.infer import NEWEST_OPSET
from ravop.graph.serde import NEWEST_IR_VERSION

OLDEST_OPSET = 13
MAX_STRING = 4_096


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a model is accepted. The defaults are the coordinator's; a provider lowers `memory` to what it lends."""

    bytes: int = 256 * 1024 * 1024
    nodes: int = 200_000
    """Bodies and functions included, each function counted at every call."""
    depth: int = 12
    """Levels of bodies in bodies, and of functions calling functions."""
    rank: int = 32
    memory: int = 1024**4
    """Bytes that the model is estimated to need at once."""
    opset: int = NEWEST_OPSET
    ir_version: int = NEWEST_IR_VERSION


def refuse(
    message: str, *, expected: object = "", received: object = "", hint: str = "", op: str = ""
) -> InvalidModelError:
    return InvalidModelError(message, expected=expected, received=received, hint=hint, op=op)


RANDOM = "use ravop.random_uniform, random_normal or bernoulli: they give the same values wherever they are computed"
TENSORS = "only tensors of numbers flow through a graph"
_STATEFUL = "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike"
_SEQUENCES = (
    "ConcatFromSequence Optional OptionalGetElement OptionalHasElement SequenceAt SequenceConstruct SequenceEmpty "
    "SequenceErase SequenceInsert SequenceLength SequenceMap SplitToSequence"
)
_TEXTS = "ImageDecoder RegexFullMatch StringConcat StringNormalizer StringSplit TfIdfVectorizer"
REFUSED: dict[str, tuple[str, str]] = {
    **dict.fromkeys(_STATEFUL.split(), ("draws random numbers that cannot be reproduced", RANDOM)),
    **dict.fromkeys(_SEQUENCES.split(), ("works on sequences or optional values", TENSORS)),
    **dict.fromkeys(_TEXTS.split(), ("works on text or files", TENSORS)),
}
"""Standard operators that no graph may hold: what they do, and what to do instead."""

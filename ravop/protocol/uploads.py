"""How an upload goes: what a client asks before it, and what a coordinator answers, as JSON over HTTP. Pure.

`POST /blobs/{sha}/uploads` with an `Offer` is answered by `There`, by `Here`, or, where the bytes go past the coordinator,
by `Elsewhere`: requests that store parts of the blob. When all that it lists is stored, and there are no `more`, then
`POST /blobs/{sha}/uploads/{upload}` ends the upload. To ask again costs nothing: what is stored already is not listed,
and URLs that have expired are new. A coordinator that answers 404 or 405 is older, and means `Here`.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ravop.errors import MessageError

WHOLE = 64 * 1024 * 1024
"""Bytes up to which a blob is one part, whose hash the store checks."""
PART = 16 * 1024 * 1024
"""Bytes of each part of a larger one, but for the last."""
LISTED = 32
"""Parts in one answer."""
MAX_BLOB = 16 * 1024**3
"""Bytes of a blob."""
MAX_ANSWER = 1024 * 1024
"""Bytes of an answer."""
MAX_OFFER = 1024
MAX_URL = 8192
CHECKSUM = "x-amz-checksum-sha256"
"""The header by which a store is told a blob's hash, in Base64, and checks it."""

Header = Annotated[str, Meta(pattern=r"^x-amz-[a-z0-9-]{1,100}$")]
"""What a store wants to be told is in such headers; nobody is made to send others."""
HeaderValue = Annotated[str, Meta(pattern=r"^[\x21-\x7e]{0,1000}$")]


class Offer(msgspec.Struct, frozen=True):
    """A blob of so many bytes could be sent."""

    size: Annotated[int, Meta(ge=0, le=MAX_BLOB)]


class There(msgspec.Struct, frozen=True, tag="there"):
    """The coordinator has the blob from this client: nothing is to be sent."""


class Here(msgspec.Struct, frozen=True, tag="here"):
    """Send it to the coordinator, by `PUT /blobs/{sha}`."""


class Part(msgspec.Struct, frozen=True):
    """A request (PUT) that stores one part. The first is number 1."""

    number: Annotated[int, Meta(ge=1, le=10_000)]
    url: Annotated[str, Meta(max_length=MAX_URL, pattern=r"^https?://")]
    headers: Annotated[dict[Header, HeaderValue], Meta(max_length=8)] = {}


class Elsewhere(msgspec.Struct, frozen=True, tag="elsewhere"):
    """Send these parts, each of `part` bytes (the last one: what is left). `more`: others are missing, too."""

    upload: Annotated[str, Meta(pattern=r"^[0-9a-z]{1,64}$")]
    part: Annotated[int, Meta(ge=1, le=MAX_BLOB)]
    parts: Annotated[tuple[Part, ...], Meta(max_length=LISTED)]
    more: bool = False


Answer = There | Here | Elsewhere

_ANSWERS = msgspec.json.Decoder(Answer)
_OFFERS = msgspec.json.Decoder(Offer)


def decode_answer(data: bytes) -> Answer:
    """Raises `MessageError`."""
    answer: Answer = _decoded(_ANSWERS, data)
    return answer


def decode_offer(data: bytes) -> Offer:
    """Raises `MessageError`."""
    offer: Offer = _decoded(_OFFERS, data)
    return offer


def part_range(number: int, part: int, size: int) -> tuple[int, int]:
    """Start and stop of a part of a blob. Raises `MessageError` for one behind its end."""
    start = (number - 1) * part
    if start >= size and number > 1:
        raise MessageError("a part that the blob does not have", expected=f"{size:,} bytes", received=number)
    return start, min(start + part, size)


def part_sizes(part: int, size: int) -> dict[int, int]:
    """Numbers and sizes of all parts; an empty blob has one."""
    count = max(1, -(-size // part))
    return {number: min(part, size - (number - 1) * part) for number in range(1, count + 1)}


def _decoded(decoder: msgspec.json.Decoder[Any], data: bytes) -> Any:
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise MessageError("not what is said of uploads", received=str(error)[:200]) from error

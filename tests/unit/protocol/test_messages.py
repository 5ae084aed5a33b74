"""Messages: every type survives the way there and back, and nothing else is let in."""

from __future__ import annotations

from typing import Any

import msgspec
import older_protocol
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravop.errors import MessageError, Problem, RavenError, VersionError, error_from_problem
from ravop.protocol import messages
from ravop.protocol.messages import (
    VERSION,
    Activate,
    Done,
    FromProvider,
    FromRequester,
    Output,
    Refused,
    Register,
    Report,
    TaskResult,
    ToProvider,
    ToRequester,
    decode,
    encode,
)
from ravop.protocol.tensors import Inline
from ravop.protocol.versions import ADDED

TRACE = f"00-{'1' * 32}-{'2' * 16}-01"
OUTPUTS = (Output(name="y", ref=Inline(b"x")),)
UNIONS = {
    "FromRequester": FromRequester,
    "FromProvider": FromProvider,
    "ToRequester": ToRequester,
    "ToProvider": ToProvider,
}
TYPES = sorted({kind for union in UNIONS.values() for kind in union.__args__}, key=lambda kind: kind.__name__)


def example(kind: Any) -> Any:
    """Some valid value of a message type, made from its field types alone."""
    return msgspec.convert(
        {"t": kind.__name__} | {f.encode_name: _value(f.type) for f in _required(kind)}, kind
    )


def _required(kind: Any) -> list[Any]:
    return [f for f in msgspec.inspect.type_info(kind).fields if f.required]


SAMPLES: list[tuple[type, Any]] = [
    (msgspec.inspect.IntType, 13),
    (msgspec.inspect.FloatType, 0.5),
    (msgspec.inspect.BoolType, True),
    (msgspec.inspect.NoneType, None),
    (msgspec.inspect.VarTupleType, ()),
    (msgspec.inspect.DictType, {}),
]


def _value(info: Any) -> Any:
    if isinstance(info, msgspec.inspect.StrType):
        return "a" * 64
    if isinstance(info, msgspec.inspect.UnionType):
        return _value(info.types[0])
    if isinstance(info, msgspec.inspect.StructType):
        tag = {info.tag_field: info.tag} if info.tag_field else {}
        return tag | {f.encode_name: _value(f.type) for f in info.fields if f.required}
    if isinstance(info, msgspec.inspect.VarTupleType) and info.min_length:
        return (_value(info.item_type),) * info.min_length
    return next(value for kind, value in SAMPLES if isinstance(info, kind))


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
def test_every_message_survives_the_way(kind: Any) -> None:
    message = example(kind)
    for union in UNIONS.values():
        if kind in union.__args__:
            assert decode(encode(message), union) == message


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
def test_a_message_of_another_direction_is_refused(kind: Any) -> None:
    for union in UNIONS.values():
        if kind not in union.__args__:
            with pytest.raises(MessageError, match="wrong shape"):
                decode(encode(example(kind)), union)


@given(st.binary(max_size=300))
def test_any_bytes_give_a_typed_error_or_a_message(data: bytes) -> None:
    try:
        found = decode(data, FromProvider)
    except (MessageError, VersionError):
        return
    assert type(found) in FromProvider.__args__


@given(st.data())
def test_damage_gives_a_typed_error_or_a_message(data: st.DataObject) -> None:
    whole = bytearray(encode(Report(done=(TaskResult(task_id=7, attempt=1, outputs=OUTPUTS, seconds=0.1),))))
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode(bytes(whole), FromProvider)
    except (MessageError, VersionError):
        return
    assert type(found) in FromProvider.__args__


@pytest.mark.parametrize(
    "fields",
    [
        {"graph_id": "g", "model": "a" * 64},
        {"graph_id": "g", "model": "a" * 64, "manifest": "A" * 64},
        {"graph_id": "../etc", "model": "a" * 64, "manifest": "b" * 64},
        {"graph_id": "g" * 81, "model": "a" * 64, "manifest": "b" * 64},
        {"graph_id": 5, "model": "a" * 64, "manifest": "b" * 64},
        {"graph_id": "g", "model": "a" * 64, "manifest": "b" * 64, "more": 1},
    ],
)
def test_fields_are_checked(fields: dict[str, Any]) -> None:
    good = {"graph_id": "g", "model": "a" * 64, "manifest": "b" * 64}
    assert decode(_raw(VERSION, "Activate", good), FromRequester) == Activate(**good)
    with pytest.raises(MessageError):
        decode(_raw(VERSION, "Activate", fields), FromRequester)


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_seconds_are_not_negative_and_are_numbers(seconds: float) -> None:
    with pytest.raises(MessageError):
        decode(
            _raw(
                VERSION, "Report", {"done": [{"task_id": 1, "attempt": 1, "outputs": [], "seconds": seconds}]}
            ),
            FromProvider,
        )


@pytest.mark.parametrize("task_id", [-1, 2**63, 2**64 - 1])
def test_numbers_that_no_database_holds_are_refused(task_id: int) -> None:
    with pytest.raises(MessageError):
        decode(_raw(VERSION, "Report", {"returned": [{"task_id": task_id, "attempt": 1}]}), FromProvider)


@pytest.mark.parametrize("gflops", [float("inf"), float("nan"), -1.0, 1e300])
def test_a_speed_is_a_possible_number(gflops: float) -> None:
    fields = example(Register)
    profile = msgspec.to_builtins(fields.profile) | {"matmul_gflops": gflops}
    raw = _raw(VERSION, "Register", {"provider_id": "p", "profile": profile})
    with pytest.raises(MessageError):
        decode(raw, FromProvider)


def test_another_version_is_refused_with_what_to_do() -> None:
    with pytest.raises(VersionError, match="same release"):
        decode(_raw(VERSION + 1, "Done", {}), ToProvider)


@pytest.mark.parametrize("kind", sorted(older_protocol.FIELDS))
def test_what_came_after_version_2_is_listed_and_left_out_for_it(kind: str) -> None:
    message, later = example(getattr(messages, kind)), ADDED.get(kind, {})
    assert set(message.__struct_fields__) - set(later) == set(older_protocol.FIELDS[kind].split())
    newest = msgspec.structs.replace(message, **dict.fromkeys(later, TRACE))
    assert set(later) <= set(msgspec.msgpack.decode(encode(newest))[1])
    assert older_protocol.unpacked(encode(newest, 2)) == older_protocol.unpacked(encode(message, 2))


def test_text_instead_of_bytes_is_refused() -> None:
    with pytest.raises(MessageError, match="binary"):
        decode("hello", FromProvider)


def test_a_message_too_large_is_refused_on_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    message = Refused(problem=Problem(code="error", message="x" * 1_000))
    data = encode(message)
    monkeypatch.setattr(messages, "MAX_MESSAGE", len(data) - 1)
    with pytest.raises(MessageError, match="too large"):
        encode(message)
    with pytest.raises(MessageError, match="too large"):
        decode(data, ToRequester)


def _raw(version: int, tag: str, fields: dict[str, Any]) -> bytes:
    return msgspec.msgpack.encode([version, {"t": tag, **fields}])


# ── errors as values ─────────────────────────────────────────────────────────────────────────────────────────────────
def errors() -> list[type[RavenError]]:
    """The public ones; a part may have subclasses of its own, which cross the network as their base."""
    found, pending = [], [RavenError]
    while pending:
        kind = pending.pop()
        if kind.__module__ == RavenError.__module__:
            found.append(kind)
        pending += kind.__subclasses__()
    return found


@pytest.mark.parametrize("kind", errors(), ids=lambda kind: kind.__name__)
def test_an_error_is_the_same_on_the_other_side(kind: type[RavenError]) -> None:
    error = kind("it failed", expected=3, received="4", hint="try 3", op="Dense_1", source="a.py:1: x")
    there = decode(encode(Refused(problem=error.problem)), ToRequester).problem
    again = error_from_problem(there)
    assert type(again) is kind
    assert str(again) == str(error)
    for words in ("it failed", "expected: 3", "received: 4", "try 3", "Dense_1", "a.py:1: x"):
        assert words in str(again)


def test_every_code_belongs_to_one_error() -> None:
    codes = [kind.code for kind in errors()]
    assert len(codes) == len(set(codes))


def test_a_subclass_of_a_part_arrives_as_its_base() -> None:
    class OwnError(MessageError):
        pass

    assert type(error_from_problem(OwnError("it failed").problem)) is MessageError


def test_a_code_of_a_later_release_is_still_an_error() -> None:
    error = error_from_problem(Problem(code="not_invented_yet", message="new"))
    assert type(error) is RavenError
    assert error.problem.code == "not_invented_yet"


def test_done_is_small() -> None:
    assert len(encode(Done())) < 16

"""The manifest's bytes: round trip, versions, garbage."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravop.errors import MessageError, VersionError
from ravop.graph.manifest import Binding, Manifest, Persisted, decode_manifest, encode_manifest

NAMES = st.text(min_size=1, max_size=20)
MANIFESTS = st.builds(
    Manifest,
    graph_id=NAMES,
    name=st.text(max_size=20),
    rules=st.dictionaries(
        NAMES, st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | NAMES
    ),
    bindings=st.lists(st.builds(Binding, input=NAMES, sha=st.just("a" * 64), size=st.integers(0, 2**50))).map(
        tuple
    ),
    persisted=st.lists(st.builds(Persisted, name=NAMES, value=NAMES)).map(tuple),
    sources=st.lists(st.text(max_size=30)).map(tuple),
    node_sources=st.dictionaries(NAMES, st.integers(0, 100)),
)


@given(MANIFESTS)
def test_round_trip(manifest: Manifest) -> None:
    assert decode_manifest(encode_manifest(manifest)) == manifest


@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises((MessageError, VersionError)):
        decode_manifest(data)


def test_another_version_is_refused() -> None:
    manifest = msgspec.structs.replace(Manifest(graph_id="g", name="n"), version=99)
    with pytest.raises(VersionError, match="same release"):
        decode_manifest(encode_manifest(manifest))

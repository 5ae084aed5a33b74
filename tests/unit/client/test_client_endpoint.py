"""Which coordinator is meant: arguments before environment, and the embedded cluster when neither names
one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ravop.client.endpoint import DEFAULT_URL, ENDPOINT_FILE, data_folder, named, read_endpoint
from ravop.errors import TokenError


def test_nothing_named_means_the_embedded_cluster() -> None:
    assert named(None, None) is None


def test_a_token_alone_is_for_the_usual_port_of_this_machine() -> None:
    assert named("secret", None) == (DEFAULT_URL, "secret")


def test_the_environment_stands_in_and_arguments_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAVENVERSE_URL", "http://there:1")
    monkeypatch.setenv("RAVENVERSE_TOKEN", "theirs")
    assert named(None, None) == ("http://there:1", "theirs")
    assert named("mine", "http://here:2") == ("http://here:2", "mine")


def test_a_url_without_a_token_is_an_error_that_says_how_to_get_one() -> None:
    with pytest.raises(TokenError, match="ravsock token create"):
        named(None, "http://there:1")


def test_the_data_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAVENVERSE_HOME", str(tmp_path))
    assert data_folder() == tmp_path.resolve()


@pytest.mark.parametrize("content", [b"", b"{", b'{"url": 3}', b'{"url": "http://x"}'])
def test_a_damaged_endpoint_file_counts_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ENDPOINT_FILE).write_bytes(content)
    assert read_endpoint(tmp_path) is None


def test_the_endpoint_file_is_read(tmp_path: Path) -> None:
    (tmp_path / ENDPOINT_FILE).write_text(
        '{"url": "http://127.0.0.1:5", "pid": 7, "requester_token": "r", "provider_token": "p"}'
    )
    endpoint = read_endpoint(tmp_path)
    assert endpoint is not None
    assert (endpoint.url, endpoint.pid, endpoint.requester_token, endpoint.provider_token) == (
        "http://127.0.0.1:5", 7, "r", "p",
    )  # fmt: skip

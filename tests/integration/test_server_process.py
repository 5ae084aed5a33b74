"""`ravsock` as a process: what it prints, refuses and leaves behind, and how it ends."""

import json
import os
import signal
import socket
import sqlite3
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from processes import Lab

from ravop.errors import TokenError
from ravsock.cli import main
from ravsock.server.data import open_store


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.close()


def ravsock(*arguments: str) -> tuple[int, str, str]:
    ended = CliRunner().invoke(main, arguments)
    return ended.exit_code, ended.stdout, ended.stderr


def test_tokens_are_created_listed_and_revoked(tmp_path: Path) -> None:
    data = ["--data", str(tmp_path / "new" / "folder")]
    code, token, _ = ravsock("token", "create", "--role", "requester", "--name", "alice", *data)
    assert code == 0
    assert token.count("\n") == 1
    token = token.strip()
    store = open_store(tmp_path / "new" / "folder", None)
    assert store.authenticate(token).name == "alice"
    _, listed, _ = ravsock("token", "list", *data)
    assert "alice" in listed
    assert token not in listed
    _, listed, _ = ravsock("token", "list", "--json", *data)
    (row,) = json.loads(listed)
    assert (row["name"], row["role"], row["revoked"]) == ("alice", "requester", None)
    assert ravsock("token", "revoke", "alice", *data)[0] == 0
    with pytest.raises(TokenError, match="revoked"):
        store.authenticate(token)
    store.close()
    code, _, error = ravsock("token", "revoke", "alice", *data)
    assert code == 1
    assert "no such token" in error
    assert ravsock("token", "create", "--role", "king", "--name", "x", *data)[0] == 2
    notes = [ravsock("token", "create", "--role", "provider", "--name", "bob", *data)[2] for _ in range(2)]
    assert notes[0] == ""
    assert "another token named bob" in notes[1]
    code, _, error = ravsock("token", "quota", "bob", "1GB", *data)
    assert (code, "of role provider" in error) == (1, True)
    assert ravsock("token", "revoke", "bob", *data)[1] == "2 tokens revoked\n"


def test_what_is_missing_is_told_with_the_variable_that_stands_in() -> None:
    code, _, error = ravsock("token", "list")
    assert code == 2
    assert "RAVENVERSE_DATA" in error


def test_a_taken_port_is_told_with_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, output, error = ravsock("serve", "--port", str(port), "--data", str(tmp_path))
    assert code == 1
    assert output == ""
    assert f"127.0.0.1:{port}" in error
    assert "--port" in error


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "no.such.host.invalid"], "not an address"),
        (["--database-url", "mysql://x"], "not a database URL"),
        (["--database-url", "postgresql://postgres@127.0.0.1:1/none"], "database does not answer"),
        (["--redis-url", "redis://127.0.0.1:6379"], "with SQLite there is one"),
        (["--redis-url", "http://x", "--database-url", "postgresql://x"], "not a URL of Redis"),
        (["--advertise", "somewhere"], "not an address where other coordinators"),
        (["--host", "192.0.2.1"], "not an address of this machine"),
        (["--blobs", "gs://x"], "correct --blobs"),
        (["--tls-key", __file__], "TLS needs a certificate and its key"),
        (["--tls-key", __file__, "--tls-certificate", __file__], "swapped"),
    ],
)
def test_options_that_cannot_work(tmp_path: Path, options: list[str], words: str) -> None:
    code, _, error = ravsock("serve", "--port", "0", "--data", str(tmp_path), *options)
    assert code == 1
    assert words in error
    assert not (tmp_path / "ravenverse.db").exists()


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    code, _, error = ravsock("serve", "--port", "0", "--data", str(tmp_path / "file" / "data"))
    assert code == 1
    assert "data folder" in error


def test_a_database_newer_than_the_program(tmp_path: Path) -> None:
    assert ravsock("token", "list", "--data", str(tmp_path))[0] == 0
    with sqlite3.connect(tmp_path / "ravenverse.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    code, _, error = ravsock("serve", "--port", "0", "--data", str(tmp_path))
    assert code == 1
    assert "of another program, or of a newer release" in error


def test_one_data_folder_has_one_coordinator_and_sigterm_ends_it(lab: Lab) -> None:
    first = lab.coordinator()
    assert "a coordinator uses" in ravsock("db", "check", "--data", str(lab.data))[1]
    code, _, error = ravsock("serve", "--port", "0", "--data", str(lab.data))
    assert code == 1
    assert "another coordinator" in error
    first.terminate()
    assert first.end() == 0
    assert "Traceback" not in first.output
    assert "no coordinator uses" in ravsock("db", "check", "--data", str(lab.data))[1]
    second = lab.coordinator()
    second.kill()
    third = lab.coordinator()
    third.interrupt()
    assert third.end() == 0


def test_standard_output_has_the_url_alone_and_an_open_host_is_warned_of(lab: Lab) -> None:
    started = lab.start(
        [
            sys.executable,
            "-c",
            "import sys; sys.stderr = open('log', 'w'); from ravsock.cli import main; main()",
            "serve",
            "--host",
            "0.0.0.0",
            "--port",
            "0",
            "--data",
            str(lab.data),
        ]
    )
    started.wait_for(r"^http://0\.0\.0\.0:\d+$")
    started.terminate()
    assert started.end() == 0
    assert len(started.output.splitlines()) == 1
    log = (lab.folder / "log").read_text()
    assert "WITHOUT TLS" in log
    assert "uvicorn" not in log


def embedded(lab: Lab) -> dict[str, str]:
    return json.loads((lab.data / "embedded.json").read_text())


def test_an_embedded_coordinator_leaves_its_address_and_ends_with_who_started_it(lab: Lab) -> None:
    arguments = ("ravsock", "serve", "--embedded", "--port", "0", "--data", str(lab.data))
    first = lab.module(*arguments)
    url = first.wait_for(r"http://127\.0\.0\.1:\d+")[0]
    place = embedded(lab)
    assert (place["url"], place["pid"]) == (url, first.pid)
    if os.name == "posix":
        assert stat.S_IMODE((lab.data / "embedded.json").stat().st_mode) == 0o600
    first.write_end()
    assert first.end() == 0
    assert not (lab.data / "embedded.json").exists()
    second = lab.module(*arguments)
    second.wait_for("http://")
    assert embedded(lab)["requester_token"] == place["requester_token"]
    assert psutil.pid_exists(second.pid)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL to send")
def test_what_a_killed_embedded_coordinator_left_does_not_hinder_the_next(lab: Lab) -> None:
    arguments = ("ravsock", "serve", "--embedded", "--port", "0", "--data", str(lab.data))
    first = lab.module(*arguments)
    first.wait_for("http://")
    first.kill()
    second = lab.module(*arguments)
    url = second.wait_for(r"http://127\.0\.0\.1:\d+")[0]
    assert (embedded(lab)["url"], embedded(lab)["pid"]) == (url, second.pid)

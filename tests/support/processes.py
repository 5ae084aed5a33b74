"""Real processes for tests: coordinators, providers and scripts that are started, waited for, frozen and
killed.

Waiting is for what a process prints or for its end, never for time to pass. A `Lab` ends all it started.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
from click.testing import CliRunner

from ravsock.cli import main as ravsock_command

ROOT = Path(__file__).parents[2]
_RANDOM = random.SystemRandom()
"""Not that of the tests, which gives the same to those that run at the same time."""
START_SECONDS = 60.0
SCRIPT_SECONDS = 100.0


class Process:
    """One program with its output gathered line by line."""

    def __init__(self, command: list[str], cwd: Path, environment: Mapping[str, str]) -> None:
        self.command = command
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        with self._news:
            return "\n".join(self._lines)

    def wait_for(self, pattern: str, timeout: float = START_SECONDS) -> re.Match[str]:
        """The first match of `pattern` in the output. Fails with the output when the process ends before."""
        with self._news:
            self._news.wait_for(lambda: self._ended or self._match(pattern), timeout)
            match = self._match(pattern)
        assert match, f"{self.command} did not print {pattern!r} within {timeout} s:\n{self.output}"
        return match

    def result(self, timeout: float = SCRIPT_SECONDS) -> str:
        """The output of a program that must end with exit code 0."""
        code = self.end(timeout)
        assert code == 0, f"{self.command} ended with exit code {code}:\n{self.output}"
        return self.output

    def end(self, timeout: float = SCRIPT_SECONDS) -> int:
        """Wait for the end. → exit code."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.command} did not end within {timeout} s:\n{self.output}") from None
        self._reader.join(timeout)
        return code

    def write_end(self) -> None:
        """Close the program's standard input."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def terminate(self) -> None:
        self._process.terminate()

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def freeze(self) -> None:
        """Stop it and its children from running, as a suspended machine would be."""
        for process in self._family():
            process.suspend()

    def thaw(self) -> None:
        for process in self._family():
            process.resume()

    def kill(self) -> None:
        """kill -9 the program alone; its children must notice by themselves."""
        self._process.kill()
        self._process.wait()

    def clean(self) -> None:
        """End it and its children, whatever state they are in."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in self._family():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self._process.wait()
        self._reader.join(5)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def children(self) -> list[psutil.Process]:
        """Its child processes and theirs."""
        found: list[psutil.Process] = psutil.Process(self._process.pid).children(recursive=True)
        return found

    def _family(self) -> list[psutil.Process]:
        return [psutil.Process(self._process.pid), *self.children()]

    def _match(self, pattern: str) -> re.Match[str] | None:
        return next((found for line in self._lines if (found := re.search(pattern, line))), None)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self._lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


class Lab:
    """A coordinator's data folder and the processes around it."""

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        self.folder = folder
        self.host = host
        self.data = folder / "data"
        self.url = ""
        self.database = ""
        """The URL of the coordinators' database, if it is not in the folder."""
        self.processes: list[Process] = []

    def start(self, command: list[str], cwd: Path | None = None, **environment: str) -> Process:
        """Start any program; its environment is this one's with the project on the path."""
        everything = os.environ | {
            "PYTHONPATH": str(ROOT),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONUNBUFFERED": "1",
            "RAVENVERSE_HOME": str(self.folder / "home"),
        }
        process = Process(command, cwd or self.folder, everything | environment)
        self.processes.append(process)
        return process

    def module(self, module: str, *arguments: str, **environment: str) -> Process:
        """Start `python -m module arguments…`."""
        return self.start([sys.executable, "-m", module, *arguments], **environment)

    def coordinator(self, wait: bool = True) -> Process:
        """Start the coordinator, the second time on the same data and port; it listens when this returns,
        unless told not to wait.
        """
        if not self.url:
            self.url = f"http://{self.host}:{free_port()}"
        port = self.url.rpartition(":")[2]
        process = self.module(
            "ravsock", "serve", "--host", self.host, "--port", port, "--data", str(self.data)
        )
        if wait:
            process.wait_for(re.escape(self.url))
        return process

    def another(self, *options: str, wait: bool = True) -> Process:
        """Start one of several coordinators on the `database`, on a port of its own; it listens when this returns, unless
        told not to wait.
        """
        place = [
            "--host",
            self.host,
            "--port",
            "0",
            "--data",
            str(self.data),
            "--database-url",
            self.database,
        ]
        process = self.module("ravsock", "serve", *place, *options)
        if wait:
            process.wait_for(r"^http://")
        return process

    def ravsock(self, *arguments: str) -> str:
        """What `ravsock arguments…` prints about this coordinator; in this process, which saves a start."""
        place = ["--data", str(self.data), *(["--database-url", self.database] if self.database else [])]
        ended = CliRunner().invoke(ravsock_command, [*arguments, *place])
        assert ended.exit_code == 0, ended.output
        return ended.stdout.strip()

    def token(self, role: str, name: str) -> str:
        return self.ravsock("token", "create", "--role", role, "--name", name)

    def provider(
        self,
        token: str,
        name: str,
        *options: str,
        url: str = "",
        prefix: Sequence[str] = (),
        wait: bool = True,
    ) -> Process:
        """Start a provider; it is registered when this returns, unless told not to wait. `url`: where it finds
        the coordinator, if not directly; `prefix`: a command that it is started by.
        """
        place = ["--url", url or self.url, "--token", token, "--name", name]
        process = self.start([*prefix, sys.executable, "-m", "provider", "start", *place, *options])
        if wait:
            process.wait_for("connected to")
        return process

    def providers(self, count: int, token: str = "", url: str = "") -> dict[str, Process]:
        """Start so many providers at once, all with one token: `p1`, `p2`, …; they are registered when this returns."""
        token = token or self.token("provider", "volunteers")
        names = [f"p{number}" for number in range(1, count + 1)]
        started = {name: self.provider(token, name, url=url, wait=False) for name in names}
        for provider in started.values():
            provider.wait_for("connected to")
        return started

    def script(
        self, path: Path, token: str, *arguments: str, cwd: Path | None = None, **environment: str
    ) -> Process:
        """Start a requester's script, which finds the coordinator by its environment."""
        place = {"RAVENVERSE_URL": self.url, "RAVENVERSE_TOKEN": token}
        return self.start([sys.executable, str(path), *arguments], cwd, **(place | environment))

    def close(self) -> None:
        for process in reversed(self.processes):
            process.clean()


def free_port() -> int:
    """A port below those that systems give to outgoing connections: one of these would take it while what listened there is
    away.
    """
    while True:
        port = _RANDOM.randint(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port

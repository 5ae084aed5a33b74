"""Slow lines for processes of this machine: network namespaces whose only way out is a line of so many bits and seconds.

Linux, root, iproute2 and /dev/net/tun are needed. Each namespace has a tun device; a program of its own (`python -m
benchmarks.lines`) takes every packet from it, holds it back as a line of this rate and delay would, drops what its buffer
does not hold, and passes it on to the hub, a tun device of the machine, and the other way round. This needs no netem in
the kernel, and the packets are real: TCP sees the delay and the losses. When that program ends, the devices are gone.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import select
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import msgspec
from processes import Lab

HUB, HUB_ADDRESS = "rvhub", "10.77.0.254"
TUN = Path("/dev/net/tun")
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
BUFFER_SECONDS = 0.2
"""What a line's buffer holds, at its rate."""
LARGEST = 2048
IPV4, DESTINATION = 4, 19
"""Version of the protocol, and where the last byte of the destination's address lies."""


@dataclass(frozen=True)
class Line:
    """The namespace of one participant."""

    namespace: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """What starts a program in it."""
        return ("ip", "netns", "exec", self.namespace)

    def carried(self) -> int:
        """Bytes so far, both ways, with all headers of IP and above."""
        shown = subprocess.run(
            ["ip", "-n", self.namespace, "-s", "-j", "link", "show", "dev", self.namespace],
            check=True,
            capture_output=True,
        ).stdout
        counters = msgspec.json.decode(shown)[0]["stats64"]
        return int(counters["rx"]["bytes"] + counters["tx"]["bytes"])


def missing() -> str:
    """What this machine lacks, or nothing."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "the command `ip` is missing: apt-get install iproute2"
    return "" if TUN.exists() else f"{TUN} is missing"


@contextmanager
def lines(lab: Lab, number: int, bits: float, delay: float) -> Iterator[list[Line]]:
    """So many namespaces behind lines of `bits` a second each way, and `delay` seconds there and back; the machine itself
    is `HUB_ADDRESS`. They are removed at the end.
    """
    found = [Line(f"rvline{place}") for place in range(number)]
    remove(found)
    relay = lab.module("benchmarks.lines", str(bits), str(delay / 2), *(line.namespace for line in found))
    relay.wait_for("ready")
    try:
        _ip("address", "add", f"{HUB_ADDRESS}/24", "dev", HUB)
        _ip("link", "set", HUB, "up")
        for place, line in enumerate(found):
            _ip("netns", "add", line.namespace)
            _ip("link", "set", line.namespace, "netns", line.namespace)
            _ip("-n", line.namespace, "address", "add", f"10.77.0.{place + 1}/24", "dev", line.namespace)
            for device in ("lo", line.namespace):
                _ip("-n", line.namespace, "link", "set", device, "up")
        yield found
    finally:
        relay.clean()
        remove(found)


def remove(found: list[Line]) -> None:
    """Whatever of them is there."""
    for line in found:
        subprocess.run(["ip", "netns", "delete", line.namespace], check=False, capture_output=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


# ── the program between them ────────────────────────────────────────────────────────────────────────────────
@dataclass
class _Way:
    """One direction of a line: where it ends, and until when it is busy with what was sent before."""

    end: int
    busy_until: float = 0.0

    def arrival(self, size: int, now: float, bits: float, delay: float) -> float | None:
        """When a packet that is sent now arrives; None when the buffer is full."""
        start = max(now, self.busy_until)
        if start - now > BUFFER_SECONDS:
            return None
        self.busy_until = start + 8 * size / bits
        return self.busy_until + delay


def relay(bits: float, delay: float, names: list[str]) -> None:
    """Pass packets on for ever. `delay`: seconds one way."""
    hub = _tun(HUB)
    devices = [_tun(name) for name in names]
    up = {device: _Way(hub) for device in devices}
    down = [_Way(device) for device in devices]
    print("ready", flush=True)
    order = count()
    due: list[tuple[float, int, int, bytes]] = []
    while True:
        now = time.monotonic()
        while due and due[0][0] <= now:
            _, _, end, packet = heapq.heappop(due)
            with contextlib.suppress(OSError):  # the device is not up yet, or not any more: lost
                os.write(end, packet)
        pause = due[0][0] - now if due else None
        for device in select.select([hub, *devices], [], [], pause)[0]:
            packet = os.read(device, LARGEST)
            if packet[0] >> 4 != IPV4 or (device == hub and not 1 <= packet[DESTINATION] <= len(down)):
                continue
            way = down[packet[DESTINATION] - 1] if device == hub else up[device]
            arrival = way.arrival(len(packet), time.monotonic(), bits, delay)
            if arrival is not None:
                heapq.heappush(due, (arrival, next(order), way.end, packet))


def _tun(name: str) -> int:
    import fcntl

    device = os.open(TUN, os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


if __name__ == "__main__":
    relay(float(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])

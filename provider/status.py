"""`Status`: what a running provider tells about itself; pure values."""

from __future__ import annotations

import msgspec

from ravop.protocol.messages import Profile


class Doing(msgspec.Struct, frozen=True, kw_only=True):
    """A batch of tasks that the provider has."""

    label: str
    """Of its first task."""
    more: int = 0
    """Tasks besides that."""
    stage: str
    """`preparing`, `ready`, `running`, `storing` or `delivering`."""
    seconds: float
    """Since computing began, or since it arrived."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    provider_id: str
    pid: int
    url: str
    graph_id: str | None
    link: str
    """`offline`, `connecting`, `registering`, `online` or `waiting`."""
    text: str
    """What it does now, or why it waits."""
    profile: Profile
    tasks: tuple[Doing, ...]
    done: int
    failed: int
    cache_bytes: int
    running_seconds: float


def lines(status: Status) -> list[str]:
    """The status for people."""
    profile, only = status.profile, f", graph {status.graph_id} only" if status.graph_id else ""
    memory = f"{profile.memory / 2**30:.1f} GiB"
    held = sum(1 + batch.more for batch in status.tasks)
    speed = f"{profile.matmul_gflops:.1f} (matmul) and {profile.conv_gflops:.1f} (convolution) GFLOP/s"
    return [
        f"{status.name} (process {status.pid}): {status.text}",
        f"  coordinator  {status.url}{only}",
        f"  offers       {profile.slots} × {profile.threads} threads with {memory}, {speed}",
        f"  tasks        {status.done} done, {status.failed} failed, {held} here",
        *(
            f"               {batch.stage} for {batch.seconds:.0f} s: {batch.label}{_more(batch)}"
            for batch in status.tasks
        ),
    ]


def _more(batch: Doing) -> str:
    return f" ({batch.more} more)" if batch.more else ""

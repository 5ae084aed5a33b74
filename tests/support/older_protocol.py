"""Peers of version 2 of the protocol, for tests: what a message could hold then, written down from that release.

Strict as that release was: another version in the envelope, or a field that it did not know, is an error.
"""

from __future__ import annotations

from typing import Any

import msgspec

FIELDS = {
    "Done": "",
    "Refused": "problem",
    "Activate": "graph_id model manifest",
    "Execute": "graph_id",
    "Cancel": "graph_id",
    "Flush": "",
    "ListGraphs": "state",
    "GetGraph": "graph_id",
    "Watch": "graph_id",
    "Fetch": "graph_id names",
    "ListProviders": "",
    "Activated": "graph_id plan",
    "GraphInfo": "graph_id name algorithm approach state fraction steps_done steps_total tasks_done tasks_running "
    "tasks_queued providers created started finished eta metrics waiting problem persisted",
    "Graphs": "graphs",
    "Fetched": "values",
    "Providers": "providers",
    "Register": "provider_id profile graph_id holding",
    "Beat": "holding doing",
    "Report": "done failed returned",
    "JoinableGraphs": "",
    "Registered": "beat_seconds drop",
    "Beaten": "drop waiting",
    "Reported": "accepted missing",
    "Assign": "tasks",
    "Recall": "tasks",
}
"""Of each message of version 2."""


def packed(kind: str, **fields: Any) -> bytes:
    """A message as version 2 sent it."""
    assert set(fields) <= set(FIELDS[kind].split()), kind
    return msgspec.msgpack.encode((2, {"t": kind, **fields}))


def unpacked(data: bytes) -> dict[str, Any]:
    """A message as version 2 took it: its fields, with its name as `t`."""
    version, body = msgspec.msgpack.decode(data)
    assert version == 2
    unknown = set(body) - {"t"} - set(FIELDS[body["t"]].split())
    assert not unknown, f"{body['t']} had no {unknown}"
    return dict(body)

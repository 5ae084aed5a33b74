"""What fields of messages and parts may hold: bounds that are checked on arrival. Values only."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,80}$")]
Name = Annotated[str, Meta(min_length=1, max_length=400)]
Text = Annotated[str, Meta(max_length=20_000)]
Sha = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""What a database can hold."""
Seconds = Annotated[float, Meta(ge=0)]
Trace = Annotated[str, Meta(pattern=r"^(00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})?$")]
"""The span that the sender is in, as W3C's `traceparent`; empty where nothing is traced."""
Gflops = Annotated[float, Meta(ge=0, le=1e9)]
"""10⁹ floating-point operations a second."""

"""How long to pause before trying again."""

from __future__ import annotations

FIRST_SECONDS = 0.5
MAX_SECONDS = 30.0
_MAX_DOUBLINGS = 16


def backoff(tries: int, jitter: float) -> float:
    """Seconds to pause after `tries` failures (from 1) in a row: doubles up to `MAX_SECONDS`.

    `jitter`, random from 0 to 1, takes away up to half, so that many providers do not come back at one
    instant.
    """
    doubled = FIRST_SECONDS * 2.0 ** min(max(tries, 1) - 1, _MAX_DOUBLINGS)
    return float(min(MAX_SECONDS, doubled) * (1.0 - 0.5 * jitter))

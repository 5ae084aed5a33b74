"""How a requester or a provider reaches the coordinator: one control connection and blob transfers, both
asyncio.

Shared by `ravop.client` and `provider`. Reconnecting, sessions and what messages mean are the callers'
business; the coordinator's side is `ravsock.server`.
"""

from ravop.transport.blobs import BlobClient
from ravop.transport.control import ControlConnection

__all__ = ["BlobClient", "ControlConnection"]

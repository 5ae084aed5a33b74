"""The truth: graphs, tasks, leases and values in SQL (SQLite or PostgreSQL), tensors as blobs in a
folder or a bucket.

Synchronous. `Store` is called from one writer thread of the server; what follows from what is decided in
`ravsock.core`.
"""

from ravsock.store.blobstore import BlobStore
from ravsock.store.folder import FolderBlobs
from ravsock.store.store import Store
from ravsock.store.values import (
    Attempt,
    ConnectedRow,
    CoordinatorRow,
    Failure,
    GraphRow,
    Held,
    Identity,
    Lease,
    Measured,
    Outcome,
    ProviderRow,
    Pulse,
    ReadyTask,
    Recall,
    Release,
    Result,
    StoredBlob,
    TokenRow,
    Upload,
    Usage,
)

__all__ = [
    "Attempt",
    "BlobStore",
    "ConnectedRow",
    "CoordinatorRow",
    "Failure",
    "FolderBlobs",
    "GraphRow",
    "Held",
    "Identity",
    "Lease",
    "Measured",
    "Outcome",
    "ProviderRow",
    "Pulse",
    "ReadyTask",
    "Recall",
    "Release",
    "Result",
    "Store",
    "StoredBlob",
    "TokenRow",
    "Upload",
    "Usage",
]

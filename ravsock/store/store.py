"""The store as its callers see it: tokens, graphs, tasks, results and blobs, in one database.

`Store(url)` connects, `migrate()` brings the schema up to date. Synchronous; every method is one transaction,
and `run_together([lambda: store.lease(…), lambda: store.complete(…), …])` makes one transaction of many;
`sync` makes what is committed durable. Times are seconds since 1970, given by the caller. Owners are token ids.
Any number of processes may share a PostgreSQL database.
"""

from ravsock.store.coordinators import Coordinators


class Store(Coordinators):
    """Tokens ← documents ← graphs ← tasks ← leasing ← returns ← outcomes ← results ← quotas ← blobs ← uploads ← garbage ← times ←
    coordinators: each layer is a module of this package."""

"""Clusters as providers: one daemon, on a gateway, lends all slots of a cluster that exists already.

Only control messages pass through the daemon. `site` runs in the cluster's worker processes: it fetches blobs, computes
in the same sandbox that a volunteer's machine has, and brings large results to the coordinator. `jobs` is what daemon and
site say to each other, typed bytes. `on_dask` and `on_ray` reach the kinds of clusters through their
`concurrent.futures`, `clusters` is what these have in common. `gateway` is the daemon's side of one, `batches` what it
does for a batch.
"""

from provider.executors.gateway import Gateway

__all__ = ["Gateway"]

"""The coordinator's shell: sockets, HTTP, tokens and the loop that hands out tasks, wired around the store and the core.

`coordinator` wires the parts, `run` makes a process of them, on what `data` opens. Decisions are in `ravsock.core`, the truth in
`ravsock.store`.

- What comes in: `sockets` (control, by `packets`), `blobs` (bulk; with `streams`, and `uploads` for those that pass the
  coordinator by), `exchange` (frames between ranks) and `rest` (people), with `auth`, `http` and `connection`, which counts
  `descriptors`. What it means: `service` for requesters, `admission` and `planning` for their graphs, `work` for
  providers, `doubts` about what these report, `lessons` from it.
- What goes out to providers: `dispatcher` in each round asks `muster` for gangs, places what is left, and asks `copies` for
  second attempts when nothing is left; `sharing` is what it leaves to other coordinators. `leases` keeps what they hold,
  `gangs` what several hold together (each a `Gang`). `progress` goes out to requesters.
- What is in memory only: `providers` that are connected (each a `Provider`); of their speeds, `ravsock.core.history`.
- What goes on by itself: `sweeper`, with `orphans` and the `collector` of blobs, by `clock`; `health` tells people when it fails.
- What others serve that use the same database: `peers` says who lives, `news` (by `wires`) what they tell at once,
  `elsewhere` which providers they have; `relay` passes on an exchange that belongs to one of them.
- What Prometheus is told: `metrics` counts where things happen, `monitoring` answers.
- Every change: through `writer`, blobs through `storage`.
"""

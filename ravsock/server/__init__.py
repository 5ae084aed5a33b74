"""The coordinator's shell: sockets, HTTP, tokens and the loop that hands out tasks, wired around the store
and the core.

`coordinator` wires the parts, `run` makes a process of them. Decisions are in `ravsock.core`, the truth in
`ravsock.store`.
"""

"""The requester's side of the network: sessions with a coordinator, the embedded cluster, runs, displays.

`ravop` publishes what scripts use of it; `ravop.cli` uses the parts. It does I/O, so the pure rooms do not
import it.
"""

"""The decisions, as pure functions of values: planning, state transitions, placement, deadlines.

No clock, no database, no socket: time and measurements are arguments, instructions are results.
"""

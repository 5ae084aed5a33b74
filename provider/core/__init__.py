"""What the daemon decides, as pure functions of values: no clock, socket, file or process in here.

`lifecycle` is the daemon's automaton, `tasks` judges tasks on arrival, `describe` says in words what it does
and why it waits, `exits` has the exit codes. The shell (`provider.daemon`) performs what they say.
"""

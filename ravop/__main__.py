"""`python -m ravop`: the same as the command `ravop`."""

from ravop.cli import main

main()

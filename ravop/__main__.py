"""`python -m ravop`: the same as the command `ravop`."""

from ravop.cli import main

if __name__ == "__main__":
    main()

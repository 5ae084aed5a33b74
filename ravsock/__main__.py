"""`python -m ravsock`: the same as the command `ravsock`."""

from ravsock.cli import main

if __name__ == "__main__":
    main()

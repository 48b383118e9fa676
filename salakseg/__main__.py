"""`python -m salakseg` is `salakseg`."""

from salakseg.cli import main

if __name__ == "__main__":
    main()

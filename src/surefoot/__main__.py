"""Let `python -m surefoot` do what `surefoot` does."""

from surefoot.cli.app import main

if __name__ == "__main__":
    main()

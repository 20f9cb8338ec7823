"""`python -m glip`, the same as the `glip` command."""

from glip.cli.main import main

if __name__ == "__main__":
    main()

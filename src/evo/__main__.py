"""The console script, and `python -m evo`: an interrupt while evo is still being imported is no crash either."""

import sys


def main() -> None:
    """Run the command line and exit the process."""
    try:
        from evo.cli.app import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()

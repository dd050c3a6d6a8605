"""The command `soban`, and `python -m soban`: nothing is imported before Ctrl-C is minded."""

import sys


def main() -> int:
    """Runs the command line and returns its exit code, 130 also for a Ctrl-C that comes while soban is imported."""
    try:
        from soban import cli

        return cli.main()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

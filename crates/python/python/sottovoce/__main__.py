"""The command line: ``python -m sottovoce``, or ``sottovoce`` once the package is installed."""

from __future__ import annotations

import signal
import sys

from . import _native


def main() -> int:
    """Runs the command that ``sys.argv`` names; its exit status."""
    # Python only notes a signal until the command is done: as a program of its own it ends at once,
    # or in good order where it says so.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _native.run_command(["sottovoce", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())

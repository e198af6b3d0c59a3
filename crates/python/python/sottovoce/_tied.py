"""The command line as the child of another process, which it does not outlive.

``python -m sottovoce._tied serve --port 0``: standard input is a pipe whose other end the parent
keeps open and never writes to. When the parent is gone, however it ended, the command gets SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from .__main__ import main


def _end_with_the_parent() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    sys.exit(main())

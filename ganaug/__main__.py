"""The command `ganaug`, and `python -m ganaug`: the command line as a process of its own."""

import atexit
import logging
import os
import signal
import sys
from contextlib import suppress

from .sessions import end_quietly


def run() -> None:
    """Runs the command and ends the process once all that the command had asked to be called at the exit has been. What Python does
    after that takes torch a second and 120 MB: its libraries take down one by one what the system frees at once."""
    code = 1  # of an exception that nothing catches

    def leave() -> None:
        logging.shutdown()  # asked to be called before this, and would come after it
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):  # a closed pipe, a closed file, no stream at all
                stream.flush()
        os._exit(code)

    atexit.register(leave)  # first, and so called last
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end_quietly)
    from .cli import main  # which takes a while, in which somebody may see that the command was wrong

    try:
        main(prog_name="ganaug")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1


if __name__ == "__main__":
    run()

"""How a command ends: by its answer, an error in one line, Ctrl-C, or a standard output that fails."""

import errno
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import typer
from typer.core import TyperGroup

from servesat.cli.common import EXIT_CODES, INTERRUPTED, tell
from servesat.core.errors import NoPlanError, ServesatError

GRACE_S = 0.7
"""How long a command may take to end after Ctrl-C before it is ended: within a second, whatever it computes."""


class Commands(TyperGroup):
    """The commands, which end in one line when a file, the output or the input is at fault, and at once on Ctrl-C."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command, and write out what it printed."""
        if sys.stdout is None:  # closed by the shell
            tell("error: standard output is closed")
            sys.exit(1)
        with _ended_by_ctrl_c():
            try:
                try:
                    return super().main(*args, **kwargs)
                finally:
                    sys.stdout.flush()
            except OSError as fault:
                _discard_output()
                if fault.errno != errno.EPIPE:  # a reader that has seen enough
                    tell(f"error: standard output: {fault.strerror or fault}")
                sys.exit(1)

    def invoke(self, context: Any) -> Any:
        """Run a command; errors are told on standard error and end it with 1, no plan with 3 or 4, Ctrl-C with 130."""
        try:
            return super().invoke(context)
        except NoPlanError as error:
            tell(str(error))
            raise typer.Exit(EXIT_CODES[error.status]) from None
        except ServesatError as error:
            for line in str(error).splitlines():
                tell(f"error: {line}")
            raise typer.Exit(1) from None
        except OSError as fault:
            if fault.filename is None:
                raise
            tell(f"error: {fault.filename}: {fault.strerror}")
            raise typer.Exit(1) from None
        except (KeyboardInterrupt, ImportError) as fault:
            if isinstance(fault, ImportError) and not isinstance(fault.__cause__, KeyboardInterrupt):
                raise  # and not what an extension makes of Ctrl-C while it is loaded
            tell("interrupted")
            raise typer.Exit(INTERRUPTED) from None


@contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """End the process after GRACE_S of a Ctrl-C, even while a solver runs, which Python's own handler waits for.

    Python's signal handler writes to a socket at once; a thread reads from it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    earlier = signal.set_wakeup_fd(writer.fileno())
    done = threading.Event()
    threading.Thread(target=_end_after_ctrl_c, args=(reader, done), daemon=True).start()
    try:
        yield
    finally:
        done.set()
        signal.set_wakeup_fd(earlier)
        writer.close()


def _end_after_ctrl_c(reader: socket.socket, done: threading.Event) -> None:
    while number := reader.recv(1):
        if number[0] == signal.SIGINT and not done.wait(GRACE_S):
            tell("interrupted")
            os._exit(INTERRUPTED)
    reader.close()


def _discard_output() -> None:
    """Let Python's last flush of standard output, which would fail again, go nowhere."""
    with suppress(OSError, ValueError):  # a standard output without a file, as in tests
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

"""Ctrl-C: the picture so far is saved, and a second Ctrl-C ends the command at once."""
from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator

import numpy as np

GRACE = 1.0      # seconds after the second Ctrl-C in which the command can end by itself
GOES_ON = "the same command goes on"


class Stop:
    """A context manager for long work that Ctrl-C stops at a point where its result is complete.

    Inside of the `with`, the first Ctrl-C only sets `requested`, and the end of the step that runs raises
    KeyboardInterrupt. The second one ends the process, even in the middle of a step, which Python cannot interrupt.

    at_once: let the first Ctrl-C raise KeyboardInterrupt at once, for work that handles it itself.

    requested: whether Ctrl-C was pressed.
    picture: the picture after the step at which the work was stopped; None if it was not, or not after a step.
    place: (octave, step) of that step, counted from 0.
    """

    def __init__(self, at_once: bool = False):
        self.at_once, self.requested, self.picture, self.place = at_once, False, None, None
        self._restore = contextlib.ExitStack()

    @contextlib.contextmanager
    def after_step(self, octave: int, i: int, vis: Callable[[], np.ndarray]) -> Iterator[None]:
        """Run the `with` at the end of a step, then raise KeyboardInterrupt if Ctrl-C was pressed.

        octave, i, vis: as in an `on_step` callback of `deepdream`.
        """
        try:
            yield
            if self.requested:
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            self.picture, self.place = vis(), (octave, i)
            raise

    def __enter__(self):
        if threading.current_thread() is threading.main_thread() \
                and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            reader, writer = socket.socketpair()
            writer.setblocking(False)
            self._restore.callback(writer.close)      # ends the thread, which closes the reader
            threading.Thread(target=_watch, args=(reader,), daemon=True).start()
            self._restore.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer.fileno(),
                                                                              warn_on_full_buffer=False))
            self._restore.callback(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, self._on_signal))
        return self

    def __exit__(self, *_):
        self._restore.close()

    def _on_signal(self, *_):
        if self.requested or self.at_once:
            raise KeyboardInterrupt
        self.requested = True
        if sys.stderr.isatty():
            print("\nstopping after this step; Ctrl-C again ends at once", file=sys.stderr)


def _watch(reader):
    """End the process GRACE seconds after the second SIGINT, unless the other end of the socket is closed by then."""
    with reader:
        count = 0
        while count < 2:
            data = reader.recv(1)
            if not data:
                return
            count += data[0] == signal.SIGINT
        reader.settimeout(GRACE)
        with contextlib.suppress(TimeoutError):
            while reader.recv(1):
                pass
            return
    os.write(2, b"\ndeepdream: interrupted\n")
    os._exit(130)


@contextlib.contextmanager
def goes_on() -> Iterator[None]:
    """Let the message after Ctrl-C inside of the `with` add that the same command goes on."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(GOES_ON) from None

"""Work ahead: a thread computes the next item of an iterator while the last one is used."""
from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator

DEPTH = 2      # items that are computed ahead


def ahead(items: Iterable) -> Iterator:
    """Yield the items of an iterable, of which another thread computes the next ones in the meantime.

    An exception of the iterable is raised where its item would be. The thread ends when the iterator is closed.
    """
    ready, stopped = queue.Queue(DEPTH), threading.Event()

    def put(what) -> bool:
        while not stopped.is_set():
            try:
                ready.put(what, timeout=0.1)
                return True
            except queue.Full:
                pass
        return False

    def work():
        try:
            for item in items:
                if not put((item, None)):
                    return
        except BaseException as error:
            put((None, error))
        else:
            put((None, StopIteration()))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        stopped.set()
        thread.join()

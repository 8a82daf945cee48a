"""Ask the servers from which models are downloaded whether they still have the files, without downloading any."""
import contextlib
import queue
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import NamedTuple

from . import cards
from .cards import NEEDED, File

AT_ONCE = 8         # requests


class Source(NamedTuple):
    """The answer of one address.

    model: name of the model.
    file: the file of the model.
    url: the address.
    size: size of the file there, in bytes; None if the server does not state it.
    problem: what is wrong with the answer, in a few words; '' if nothing is.
    """
    model: str
    file: File
    url: str
    size: int | None
    problem: str


def check(names: Iterable[str]) -> Iterator[Source]:
    """Ask every address of some models for the size of its file.

    names: names of models.

    Yields a Source for each address, in the order of the cards. An address that several models share is asked once.
    Raises ModelError for an unknown name or a damaged card.
    """
    from .download import offered
    asked = [(name, file, url) for name in names for file in cards.card(name).files for url in file.mirrors]
    answers, todo = {}, queue.SimpleQueue()
    for _, file, url in asked:
        if (key := (url, file.size, file.limit)) not in answers:
            answers[key] = Future()
            todo.put((answers[key], url, file))

    def work():
        while True:
            try:
                future, url, file = todo.get_nowait()
            except queue.Empty:
                return
            try:
                future.set_result(offered(url, file))
            except Exception as error:
                future.set_exception(error)
    for _ in range(AT_ONCE):
        threading.Thread(target=work, daemon=True).start()          # a daemon: Ctrl-C need not wait for slow servers
    try:
        for name, file, url in asked:
            yield Source(name, file, url, *answers[url, file.size, file.limit].result())
    finally:
        with contextlib.suppress(queue.Empty):                      # after an exception, ask nobody else
            while True:
                todo.get_nowait()


def lost(sources: Iterable[Source]) -> list[str]:
    """List the models that can no longer be downloaded, because no address has a file that they need.

    sources: the results of `check` for all addresses of these models.
    """
    good, names = set(), {}
    for source in sources:
        names[source.model] = None
        if not source.problem:
            good.add((source.model, source.file.name))

    def there(card, file):
        return file.shipped or (card.name, file.name) in good or (card.name, file.archive) in good
    known = map(cards.card, names)
    return [card.name for card in known if not all(there(card, card.role(role)) for role in NEEDED)]

"""Downloading a file from a mirror that may hang, crawl, lie or lose the connection.

What comes is kept in NAME.part, checked, and only then moved to NAME: whatever lies under a good name is good. Nothing
that a mirror says is believed, and no mirror holds us up: what it does wrong is a few words, and the next one's turn.
"""
import contextlib
import os
import queue
import re
import sys
import threading
import time
import warnings
import zlib
from pathlib import Path
from urllib.parse import urljoin

import requests

from .errors import short
from .cards import File

TIMEOUT = (10, 30)          # seconds: to connect; without a byte
OPENING = 60                # seconds in all until the content begins
LEAST = (30_000, 30)        # so many bytes in so many seconds: a mirror that sends less hangs
REDIRECTS = 10
TRIES = 20                  # connections to one mirror that drops them, as long as each brings the file further
CHUNK = 1 << 14             # bytes; a dropped connection loses less than one
HANGS = ("timed out", "too slow")      # who hangs once hangs again

# of a cookie that makes no sense: Python would print a traceback
warnings.filterwarnings("ignore", "http.cookiejar bug", UserWarning)


class _Wrong(Exception):
    """The mirror's content is not the file's: what came is thrown away."""


class _Refused(Exception):
    """The mirror offers something else: nothing was written, an older partial file stays."""


class _TooSlow(requests.Timeout):
    pass


def from_mirror(url: str, file: File, folder: Path, progress: bool) -> str:
    """Downloads `file` from one mirror, resuming a partial one; returns '' or why it could not, in a few words."""
    # without a checksum, never join the halves of two mirrors
    part = folder / (f"{file.name}.{zlib.crc32(url.encode()):08x}.part" if file.unverified else f"{file.name}.part")

    def size():
        return part.stat().st_size if part.exists() else 0

    why = ""
    for _ in range(TRIES):
        before = size()
        try:
            if not (file.size and before == file.size):
                _receive(url, file, part, before, progress)
            wrong = file.problem(part)
            if wrong:
                part.unlink()
                raise _Wrong(wrong)
            settle(part, folder / file.name)
            return ""
        except _Refused as error:
            return str(error)
        except _Wrong as error:
            why = str(error)
            if not before:                                              # else blame the older half, and try anew
                return why
        except requests.RequestException as error:
            why = _in_words(error)
            if size() <= before or why in HANGS:
                return why
    return why


def offered(url: str, file: File) -> tuple[int | None, str]:
    """Ask a mirror for the size of a file, without downloading the file.

    Returns (bytes, or None if the mirror does not say; what is wrong in a few words, or '').
    """
    try:
        with contextlib.closing(_in_time(_headers(url))) as answers:
            size, kind = next(answers)
    except requests.RequestException as error:
        return None, _in_words(error)
    if kind.startswith("text/html") and size != file.size:          # what servers send when they have lost a file
        return size, "a web page"
    if size is None:
        return None, ""
    if file.size and size != file.size:
        return size, f"offers {size:,} bytes instead of {file.size:,}"
    if not file.min_size <= size <= file.most:
        return size, f"offers {size:,} bytes, not {file.min_size:,} to {file.most:,}"
    return size, ""


def _headers(url: str):
    """Yield (size or None, content type) of the file at an address: by HEAD, else by GET of its first byte."""
    for method, headers in (("HEAD", {}), ("GET", {"Range": "bytes=0-0"})):
        with _understood():
            answer = _opened(url, headers | {"Accept-Encoding": "identity"}, method)
        with answer:
            reach = re.fullmatch(r"bytes 0-[0-9]{1,18}/([0-9]{1,18})", answer.headers.get("Content-Range", ""))
            length = answer.headers.get("Content-Length", "") if answer.status_code == 200 else ""
            size = int(reach[1]) if reach and answer.status_code == 206 else \
                int(length) if re.fullmatch("[0-9]{1,18}", length) else None
            if method == "GET" and answer.status_code not in (200, 206):
                raise requests.HTTPError(response=answer)
        if size is not None or method == "GET":
            yield size, answer.headers.get("Content-Type", "").strip().lower()
            return


def settle(part: Path, path: Path) -> None:
    """Moves a file that is whole and right to its good name, once the disk has it."""
    with open(part, "rb+") as file, contextlib.suppress(OSError):        # a file system that knows no such thing
        os.fsync(file.fileno())
    os.replace(part, path)


def _receive(url: str, file: File, part: Path, start: int, progress: bool) -> None:
    """Appends to `part` what is missing from byte `start` on; from the beginning if the server cannot resume."""
    from tqdm import tqdm
    with contextlib.closing(_in_time(_answer(url, file, start))) as answer:
        start, total = next(answer)
        if start is None:
            part.unlink()
            raise _Wrong("its file is shorter than what is here")
        have = start
        with open(part, "ab" if start else "wb") as out, \
                tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=file.name, file=sys.stderr,
                     disable=None if progress else True) as bar:        # None: quiet unless stderr is a terminal
            for chunk in answer:
                out.write(chunk)
                have += len(chunk)
                bar.update(len(chunk))
                if have > (total or file.most):
                    break                                               # File.problem will say so
    if total and have < total:
        raise requests.ConnectionError(f"lost after {have:,} of {total:,} bytes")


def _answer(url: str, file: File, start: int):
    """Yields (the byte that the answer begins with, the size of the whole file or None), then the content in pieces.

    (None, None), and nothing else: what is here already is more than the mirror has.
    """
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with _understood():
        answer = _opened(url, headers)
    with answer:
        begins, total = _promise(answer, file, start)
        yield begins, total
        if begins is not None and begins != total:
            with _understood():
                yield from answer.iter_content(CHUNK)


def _promise(answer, file: File, start: int):
    """What the headers promise: see `_answer`. Raises _Refused, or requests.HTTPError of a status that is no answer."""
    reach = re.fullmatch(r"bytes (?:([0-9]{1,18})-[0-9]{1,18}|\*)/([0-9]{1,18}|\*)",
                         answer.headers.get("Content-Range", ""))
    if answer.status_code == 416 and start:
        if reach and reach[2] == str(start):                            # nothing is missing
            return start, start
        if file.size and start < file.size:
            raise _Refused("its file is shorter")
        return None, None
    if answer.status_code not in (200, 206):
        raise requests.HTTPError(response=answer)
    if answer.status_code == 206 and not (reach and reach[1] == str(start)):
        raise _Refused("answers with another range than asked for")
    if (encoding := answer.headers.get("Content-Encoding", "identity").strip().lower()) not in ("", "identity"):
        raise _Refused(f"sends it encoded as {short(encoding)}")
    start = start if answer.status_code == 206 else 0                   # 200: it ignores ranges
    length = answer.headers.get("Content-Length", "")
    total = start + int(length) if re.fullmatch("[0-9]{1,18}", length) else file.size
    if file.size and total != file.size:
        raise _Refused(f"offers {total:,} bytes instead of {file.size:,}")
    if total and total > file.most:
        raise _Refused(f"offers {total:,} bytes, more than the {file.most:,} that it may have")
    return start, total


class _Session(requests.Session):
    def get_redirect_target(self, _):
        """None: requests would read all that comes with a redirection, and it may be endless."""


def _opened(url: str, headers: dict, method: str = "GET"):
    """The answer to a request, redirections followed."""
    with _Session() as session:
        for _ in range(REDIRECTS):
            answer = session.request(method, url, headers=headers, stream=True, timeout=TIMEOUT)
            target = requests.Session.get_redirect_target(session, answer)
            if target is None:
                return answer
            answer.close()
            url = urljoin(url, target)
    raise requests.TooManyRedirects("too many redirections")


@contextlib.contextmanager
def _understood():
    """What a server's nonsense raises in the libraries that read it (each has its own) becomes a RequestException."""
    try:
        yield
    except requests.RequestException:
        raise
    except Exception as error:
        raise requests.RequestException("an answer that cannot be understood") from error


def _in_time(items):
    """Yields what the generator `items` yields in a thread of its own: first what takes OPENING seconds at most, then
    bytes, which come LEAST fast. Raises requests.Timeout.

    The timeout of a socket counts from the last byte: with one byte now and then a server could hold us for ever.
    """
    ready, given_up, end = queue.Queue(4), threading.Event(), object()

    def hand(item):
        while not given_up.is_set():
            with contextlib.suppress(queue.Full):
                return ready.put(item, timeout=1)

    def work():
        try:
            for item in items:
                hand(item)
                if given_up.is_set():
                    return items.close()
            hand(end)
        except BaseException as error:                                  # raised where it is waited for
            hand(error)

    def take(until, late):
        try:
            item = ready.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            raise late() from None
        if isinstance(item, BaseException):
            raise item
        return item

    threading.Thread(target=work, daemon=True).start()
    least, seconds = LEAST
    try:
        yield take(time.monotonic() + OPENING, requests.Timeout)
        while True:
            until, came = time.monotonic() + seconds, 0
            while came < least:
                piece = take(until, _TooSlow)
                if piece is end:
                    return
                yield piece
                came += len(piece)
    finally:
        given_up.set()


def _in_words(error) -> str:
    """A requests exception in a few words."""
    if isinstance(error, requests.HTTPError):
        return short(f"{error.response.status_code} {error.response.reason or ''}")
    if str(error).startswith(("lost after", "too many redir", "an answer")):
        return str(error)
    words = ((_TooSlow, HANGS[1]), (requests.exceptions.SSLError, "certificate refused"), (requests.Timeout, HANGS[0]),
             (requests.exceptions.ChunkedEncodingError, "connection lost"))
    said = next((text for kind, text in words if isinstance(error, kind)), "no connection")
    return HANGS[0] if "timed out" in str(error) else said

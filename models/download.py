"""Downloading a file from a mirror that may be slow, lose the connection or send something else.

The content is written to NAME.part, checked, and only then renamed to NAME, so a file under its final name has been
verified. Time and size are limited, whatever the mirror says. What goes wrong is described in a few words, and the
caller can try the next mirror.
"""
from __future__ import annotations

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

TIMEOUT = (10, 30)          # seconds: to connect, and to wait for the next byte
OPENING = 60                # seconds until the content must begin
LEAST = (30_000, 30)        # the minimum speed: this number of bytes in this number of seconds
REDIRECTS = 10              # maximum number of redirections
TRIES = 20                  # maximum number of connections to a mirror that drops them; each must make progress
CHUNK = 1 << 14             # bytes to read at a time; a dropped connection loses less than this
HANGS = ("timed out", "too slow")      # reasons not to try the same mirror again

# for a malformed cookie, Python would print a traceback
warnings.filterwarnings("ignore", "http.cookiejar bug", UserWarning)


class _Wrong(Exception):
    """The content is not that of the file; the partial file has been deleted."""


class _Refused(Exception):
    """The mirror offers something else. Nothing has been written, and an older partial file is still there."""


class _TooSlow(requests.Timeout):
    pass


def from_mirror(url: str, file: File, folder: Path, progress: bool) -> str:
    """Download a file from one mirror, or the rest of it if a partial file exists.

    url: the mirror's address.
    file: description of the file.
    folder: where it is written.
    progress: show a progress bar, if stderr is a terminal.

    Returns '', or the reason why it failed, in a few words.
    """
    # without a checksum, parts from two mirrors must not be joined, so each mirror has its own partial file
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
            if not before:                                              # else the older part may be wrong: start again
                return why
        except requests.RequestException as error:
            why = _in_words(error)
            if size() <= before or why in HANGS:
                return why
    return why


def offered(url: str, file: File) -> tuple[int | None, str]:
    """Ask a mirror for the size of a file, without downloading the file.

    Returns (size in bytes, or None if the mirror does not state it; what is wrong, in a few words, or '').
    """
    try:
        with contextlib.closing(_in_time(_headers(url))) as answers:
            size, kind = next(answers)
    except requests.RequestException as error:
        return None, _in_words(error)
    if kind.startswith("text/html") and size != file.size:          # some servers send a page for a missing file
        return size, "a web page"
    if size is None:
        return None, ""
    if file.size and size != file.size:
        return size, f"offers {size:,} bytes instead of {file.size:,}"
    if not file.min_size <= size <= file.limit:
        return size, f"offers {size:,} bytes, not {file.min_size:,} to {file.limit:,}"
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
    """Give a file that has been checked its final name, after all of it has been written to disk.

    part: path of the partial file.
    path: its final path.
    """
    with open(part, "rb+") as file, contextlib.suppress(OSError):        # some file systems have no fsync
        os.fsync(file.fileno())
    os.replace(part, path)


def _receive(url: str, file: File, part: Path, start: int, progress: bool) -> None:
    """Append the rest of the file to `part`, which has `start` bytes; begin again if the server cannot resume."""
    from tqdm import tqdm
    with contextlib.closing(_in_time(_answer(url, file, start))) as answer:
        start, total = next(answer)
        if start is None:
            part.unlink()
            raise _Wrong("its file is shorter than the part on disk")
        have = start
        with open(part, "ab" if start else "wb") as out, \
                tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=file.name, file=sys.stderr,
                     disable=None if progress else True) as bar:        # None: quiet unless stderr is a terminal
            for chunk in answer:
                out.write(chunk)
                have += len(chunk)
                bar.update(len(chunk))
                if have > (total or file.limit):
                    break                                               # File.problem will report it
    if total and have < total:
        raise requests.ConnectionError(f"lost after {have:,} of {total:,} bytes")


def _answer(url: str, file: File, start: int):
    """Yield (number of the answer's first byte, size of the whole file or None), and then the content in pieces.

    Yields only (None, None) if the part on disk is longer than the mirror's file.
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
    """Return what `_answer` yields first, from the headers. Raises _Refused, or requests.HTTPError for an error."""
    reach = re.fullmatch(r"bytes (?:([0-9]{1,18})-[0-9]{1,18}|\*)/([0-9]{1,18}|\*)",
                         answer.headers.get("Content-Range", ""))
    if answer.status_code == 416 and start:
        if reach and reach[2] == str(start):                            # the part on disk is complete
            return start, start
        if file.size and start < file.size:
            raise _Refused("its file is shorter")
        return None, None
    if answer.status_code not in (200, 206):
        raise requests.HTTPError(response=answer)
    if answer.status_code == 206 and not (reach and reach[1] == str(start)):
        raise _Refused("answers with another range than requested")
    if (encoding := answer.headers.get("Content-Encoding", "identity").strip().lower()) not in ("", "identity"):
        raise _Refused(f"sends it encoded as {short(encoding)}")
    start = start if answer.status_code == 206 else 0                   # 200: the server cannot resume
    length = answer.headers.get("Content-Length", "")
    total = start + int(length) if re.fullmatch("[0-9]{1,18}", length) else file.size
    if file.size and total != file.size:
        raise _Refused(f"offers {total:,} bytes instead of {file.size:,}")
    if total and total > file.limit:
        raise _Refused(f"offers {total:,} bytes, but the file may have at most {file.limit:,}")
    return start, total


class _Session(requests.Session):
    def get_redirect_target(self, _):
        """Return None, so that requests follows no redirection: it would read all content, which may be endless."""


def _opened(url: str, headers: dict, method: str = "GET"):
    """Send a request and follow redirections. Returns the answer."""
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
    """Turn any exception that a malformed answer raises in requests and its libraries into a RequestException."""
    try:
        yield
    except requests.RequestException:
        raise
    except Exception as error:
        raise requests.RequestException("an answer that cannot be understood") from error


def _in_time(items):
    """Run a generator in a thread, and yield its items within time limits: OPENING for the first, LEAST for the bytes
    after.

    Raises requests.Timeout. The timeout of a socket is not enough, because it starts again with every byte.
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
        except BaseException as error:                                  # `take` raises it in the other thread
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
    """Describe a requests exception in a few words."""
    if isinstance(error, requests.HTTPError):
        return short(f"{error.response.status_code} {error.response.reason or ''}")
    if str(error).startswith(("lost after", "too many redir", "an answer")):
        return str(error)
    words = ((_TooSlow, HANGS[1]), (requests.exceptions.SSLError, "certificate refused"), (requests.Timeout, HANGS[0]),
             (requests.exceptions.ChunkedEncodingError, "connection lost"))
    reason = next((text for kind, text in words if isinstance(error, kind)), "no connection")
    return HANGS[0] if "timed out" in str(error) else reason

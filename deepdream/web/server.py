"""A small web server for the page, for this machine only, with the headers that allow threads."""
from __future__ import annotations

from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from ..errors import DreamError
from .pack import HEADERS

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")      # what a browser may call this server: not a name that someone else points to it
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
         ".css": "text/css; charset=utf-8", ".txt": "text/plain; charset=utf-8"}


def server(files: Mapping[str, bytes], port: int = 0) -> ThreadingHTTPServer:
    """Return a server that is bound to 127.0.0.1 and serves files from memory, and nothing else.

    files: {path: contents}.
    port: its port; 0 for any that is free.

    Raises DreamError if the port is in use.
    """
    try:
        return ThreadingHTTPServer((HOST, port), type("Handler", (_Handler,), {"files": dict(files)}))
    except OSError as error:
        raise DreamError(f"--serve {port}: cannot listen on {HOST}:{port}: {error.strerror or error}") from None


def address(running: ThreadingHTTPServer) -> str:
    """Return the address of the page."""
    return f"http://{HOST}:{running.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD. files: {path: contents}."""
    files = {}
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self._answer(body=True)

    def do_HEAD(self):
        self._answer(body=False)

    def _answer(self, body):
        name = unquote(urlsplit(self.path).path).lstrip("/") or "index.html"
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        data = self.files.get(name) if host in NAMES else None
        self.send_response(200 if data is not None else 404)
        data = b"not found\n" if data is None else data
        self.send_header("Content-Type", TYPES.get(PurePosixPath(name).suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        for header, value in HEADERS.items():
            self.send_header(header, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_):
        """Print nothing for each request."""

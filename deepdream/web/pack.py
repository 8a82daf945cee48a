"""Put the page together: as one file that opens from disk, or as parts for a web server."""
from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from ..provenance import SOFTWARE
from .runtime import VERSION
from .scripts import joined, modules

FOLDER = Path(__file__).with_name("page")
SCRIPTS, PAGE, WORKER = FOLDER / "js", "page.js", "worker.js"
HEADERS = {   # what a server must send so that browsers allow threads
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}
NOTE = """These files are a web page that dreams by itself. Put them on any web server for static files, and open
index.html there. It does not work from disk, because browsers do not let a page read other files.

With these headers, browsers let the page use several threads, which makes it faster:

{headers}

`deepdream web --serve` sends them. Some hosts read them from the file _headers in this folder.
"""


def single_page(config: dict, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the page as one file, {"index.html": contents}.

    config: the description of the page's contents, of plain values.
    files: {name: contents} of the files to which it refers.
    """
    worker = joined(SCRIPTS, WORKER)
    assets = {name: base64.b64encode(packed(data)).decode() for name, data in files.items()}
    script, style = joined(SCRIPTS, PAGE), _style()
    policy = _policy(f"{_hash(script)} blob: 'wasm-unsafe-eval'", "blob:", _hash(style), "blob:")
    page = _html(policy=policy, style=style, script=script, config=_json(config | {"software": SOFTWARE}),
                 worker=_json(worker), assets=assets)
    return {"index.html": page.encode()}


def parts(config: dict, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the page as files for a web server, {name: contents}. The arguments are those of `single_page`."""
    policy = _policy("'self' blob: 'wasm-unsafe-eval'", "'self' blob:", "'self'", "'self' blob:")
    page = _html(policy=policy, style=None, script=None, config=_json(config | {"software": SOFTWARE}), worker=None,
                 assets={})
    names = dict.fromkeys(modules(SCRIPTS, PAGE) + modules(SCRIPTS, WORKER))
    headers = "\n".join(f"    {name}: {value}" for name, value in HEADERS.items())
    return {"index.html": page.encode(), "style.css": _style().encode(),
            **{f"js/{name}": (SCRIPTS / name).read_bytes() for name in names},
            **{name: packed(data) for name, data in files.items()},
            "_headers": "".join(["/*\n", *(f"  {name}: {value}\n" for name, value in HEADERS.items())]).encode(),
            "README.txt": NOTE.format(headers=headers).encode()}


def packed(data: bytes) -> bytes:
    """Compress a file for the page, the same way each time."""
    return gzip.compress(data, 9, mtime=0)


def _policy(script, worker, style, connect):
    """Return the content security policy: the page contacts no other server."""
    return (f"default-src 'none'; script-src {script}; worker-src {worker}; style-src {style}; img-src 'self' blob: "
            f"data:; media-src blob: mediastream:; connect-src {connect}; base-uri 'none'; form-action 'none'")


def _html(**values):
    import jinja2
    env = jinja2.Environment(loader=jinja2.FileSystemLoader(FOLDER), trim_blocks=True, lstrip_blocks=True,
                             undefined=jinja2.StrictUndefined)
    return env.get_template("page.html").render(runtime_version=VERSION, **values)


def _style():
    return (FOLDER / "style.css").read_text(encoding="utf-8")


def _hash(text):
    """Return the hash by which a policy allows an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _json(value):
    """Return a value as JSON that may stand in a script element."""
    return json.dumps(value).replace("<", "\\u003c")

"""Make a web page that dreams by itself: in the browser, without a server, an installation or a network.

    deepdream web -o page/                                    page/index.html, one file: open it with a double click
    deepdream web -o page/ --models mini_places --ends low middle
    deepdream web -o page/ --models net.onnx --ends conv4
    deepdream web -o page/ --parts                            separate files, for any web server
    deepdream web --serve                                     the page on http://127.0.0.1, with several threads

The page holds the step graphs of the chosen layers and onnxruntime-web, which is downloaded at the first use (4 MB of
the page), or taken from --runtime. It offers the nets side by side, layers from low to high, octaves, steps, jitter and
seed, an endless zoom, and the camera, and contacts nobody. The picture that it saves holds its settings, so
`deepdream --settings` makes the same dream again.
"""
from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from ...errors import DreamError
from ..nets import SHIPPED, nets_of, on_disk
from ..options import whole_number
from ..output import make_folder

OURS = b'name="generator" content="deepdream web"'      # stands in the page, so that it may be replaced
PORT = 8765


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("-o", "--output", metavar="FOLDER", help="the folder for the page")
    parser.add_argument("--models", nargs="+", default=SHIPPED, metavar="MODEL", help="the nets: names from `deepdream "
                        f"models`, folders or .onnx files (default: {' '.join(SHIPPED)})")
    parser.add_argument("--ends", nargs="+", default=[], metavar="LAYER", help="the layers to dream at: names, "
                        "patterns such as 'inception_4*', or low, middle, high or all, as the model card sorts them "
                        "(default: about two low, two middle and two high ones)")
    parser.add_argument("--parts", action="store_true", help="write separate files for a web server, not one file")
    parser.add_argument("--serve", nargs="?", type=whole_number(0, 65535), const=PORT, metavar="PORT", help="show the "
                        f"page at http://127.0.0.1:PORT, for this machine only (default: {PORT}; 0: any free port)")
    parser.add_argument("--runtime", metavar="FOLDER", default=os.environ.get("DEEPDREAM_WEB_RUNTIME") or None,
                        help="a folder with the package onnxruntime-web (default: $DEEPDREAM_WEB_RUNTIME, or download "
                        "it once)")
    parser.add_argument("--half", action="store_true", help="store the weights in half precision: the page is smaller, "
                        "by a third with the default nets, but its dreams are no longer those of `deepdream`")
    parser.add_argument("--webgpu", action="store_true", help="also put in the runtime that uses the graphics "
                        "processor (9 MB); the page offers it where the browser has WebGPU, and keeps it only if its "
                        "first step is the same")


def run(args: Namespace) -> None:
    """Run this command."""
    from ...batch import rows
    from ...web import runtime
    if not args.output and args.serve is None:
        raise DreamError("-o: is missing; give -o FOLDER, or --serve")
    if args.output:
        _check(Path(args.output))
    files = {provider: runtime.runtime_files(provider, args.runtime)
             for provider in ("wasm", *["webgpu"] * args.webgpu)}
    nets = nets_of(on_disk(args.models))
    made = _build(nets, rows.table(args.ends, nets), files, args)
    if args.output:
        _write(Path(args.output), made)
    if args.serve is not None:
        _serve(made, args.serve)


def _build(nets, table, files, args):
    """Build the page, with a progress bar over its layers."""
    from tqdm import tqdm

    from ...web.build import build
    total = sum(len({row.get(name) for _, row in table} - {None}) for name in nets)
    with tqdm(total=total, file=sys.stderr, leave=False, disable=not sys.stderr.isatty(), dynamic_ncols=True,
              bar_format="{desc}|{bar}| {n_fmt}/{total_fmt} layers") as bar:
        def on_layer(net, end):
            bar.set_description_str(f"{net} {end} ")
            bar.update()

        return build(nets, table, files, args.half, args.parts or args.serve is not None and not args.output,
                     on_layer)


def _check(folder):
    """Raise DreamError if the page cannot be written to a folder, or would replace a page of somebody else."""
    from ... import pictures
    page = folder / "index.html"
    make_folder(folder)
    pictures.check_file(page, "-o")
    if page.is_file() and OURS not in page.read_bytes()[:4096]:
        raise DreamError(f"-o {folder}: {page} is another page, which would be replaced; give another folder")


def _write(folder, made):
    """Write the files of the page; index.html last, since it refers to the others."""
    from ... import pictures
    try:
        for name, data in sorted(made.items(), key=lambda item: item[0] == "index.html"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            pictures.write(folder / name, data)
    except OSError as error:
        raise DreamError(f"-o {folder}: cannot be written: {error.strerror or error}") from None
    size = sum(map(len, made.values())) / 1e6
    how = "open it in a browser" if len(made) == 1 else f"{len(made)} files for a web server"
    print(f"{folder / 'index.html'}: {size:.1f} MB, {how}", flush=True)


def _serve(made, port):
    """Serve the page until Ctrl-C."""
    from ...web.server import address, server
    with server(made, port) as running:
        print(f"{address(running)}: press Ctrl-C to end", flush=True)
        try:
            running.serve_forever()
        except KeyboardInterrupt:
            print(file=sys.stderr)

"""The whole page from nets: their graphs, the runtime, the scenes, and the HTML around them."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .contents import contents
from .pack import parts, single_page
from .runtime import VERSION
from .scenes import scenes

if TYPE_CHECKING:
    from ..net import Net

PIXELS = 1024 * 768      # the maximum size of a dream in the page


def build(nets: dict[str, Net], table: list[tuple[str, dict[str, str]]], runtime: dict[str, list[Path]],
          half: bool = False, separate: bool = False, on_layer: Callable[[str, str], None] = lambda net, end: None
          ) -> dict[str, bytes]:
    """Return the files of the page, {path: contents}.

    nets: {name: Net}.
    table: the layers, from `batch.rows.table`.
    runtime: {provider: the files of onnxruntime-web}, from `runtime.runtime_files`.
    half: store the weights in half precision.
    separate: return parts for a web server, not one file.
    on_layer: called with the net and the layer before each graph is built.
    """
    chosen = {name: list(dict.fromkeys(row[name] for _, row in table if name in row)) for name in nets}
    made, (offered, files) = contents(nets, chosen, half, "webgpu" in runtime, on_layer), scenes()
    files |= made.files
    used = {"version": VERSION}
    for provider, (module, binary) in runtime.items():
        used[provider] = {"module": f"{module.name}.bin", "wasm": f"{binary.name}.bin"}
        files |= {f"{path.name}.bin": path.read_bytes() for path in (module, binary)}
    config = {"nets": made.nets, "rows": [{"level": level, "ends": ends} for level, ends in table], "scenes": offered,
              "runtime": used, "limit": PIXELS, "start": _start(nets, table)}
    return (parts if separate else single_page)(config, files)


def _start(nets, table):
    """Return the number of the row with the first net's default layer; otherwise of the one in the middle."""
    name, net = next(iter(nets.items()))
    found = [i for i, (_, ends) in enumerate(table) if ends.get(name) == net.default_end]
    return found[0] if found else len(table) // 2

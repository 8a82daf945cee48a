"""onnxruntime-web, which runs the graphs in the browser: downloaded once, in a fixed version, or from a folder."""
from __future__ import annotations

from pathlib import Path

from .. import models
from ..errors import DreamError

VERSION = "1.30.0"
# Public copies of the package's files; whichever answers, only the checksums count.
MIRRORS = (f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{VERSION}/dist/",
           f"https://unpkg.com/onnxruntime-web@{VERSION}/dist/")
FILES = {   # provider -> the module and the binary: (file, bytes, sha256)
    "wasm": (("ort.wasm.bundle.min.mjs", 73054, "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90"),
             ("ort-wasm-simd-threaded.wasm", 14239897,
              "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2")),
    "webgpu": (("ort.webgpu.bundle.min.mjs", 117732,
                "0730816731ce2cdfb06f273da065d4a1c7091eb9d1756a83b2916c8a89d015e2"),
               ("ort-wasm-simd-threaded.asyncify.wasm", 26781914,
                "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da")),
}
PLACES = (".", "dist", "package/dist", "node_modules/onnxruntime-web/dist")      # where a folder may have the files


def runtime_files(provider: str = "wasm", folder: str | Path | None = None, progress: bool = True) -> list[Path]:
    """Return the paths of the module and of the binary of onnxruntime-web.

    provider: a key of FILES.
    folder: a folder with the package; None to download the files to the cache folder, unless they are there.
    progress: show a progress bar, if stderr is a terminal.

    Raises DreamError if a file is missing or has another content, or if a download fails.
    """
    files = [models.File(name, "runtime", size=size, sha256=sha256, mirrors=tuple(m + name for m in MIRRORS))
             for name, size, sha256 in FILES[provider]]
    if folder is not None:
        return [_in_folder(file, models.expanded(folder, "--runtime ")) for file in files]
    cache = Path(models.cache_dir()) / f"onnxruntime-web-{VERSION}"
    try:
        models.obtain(files, cache, progress)
    except models.ModelError as error:
        raise DreamError(f"{error}; without a network, get onnxruntime-web {VERSION} elsewhere and give --runtime "
                         "FOLDER") from None
    return [cache / file.name for file in files]


def _in_folder(file, folder):
    found = [path for place in PLACES if (path := folder / place / file.name).is_file()]
    if not found:
        raise DreamError(f"--runtime {folder}: there is no {file.name}; give the folder of the package "
                         f"onnxruntime-web {VERSION}")
    try:
        problem = file.problem(found[0])
    except OSError as error:
        raise DreamError(f"--runtime {found[0]}: cannot be read: {error.strerror}") from None
    if problem:
        raise DreamError(f"--runtime {found[0]}: {problem}; needed is onnxruntime-web {VERSION}")
    return found[0]

"""Writing a net as Caffe's files, for the scripts that make nets."""
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from deepdream.convert.caffe.caffe_pb2 import NetParameter
from deepdream.convert.files import write


def write_net(folder: Path, title: str, layers: Iterable[tuple], weights: dict[str, list[np.ndarray]],
              labels: Sequence[str]) -> int:
    """Write a net: deploy.prototxt, FOLDER.caffemodel (V2 format, float32) and labels.txt.

    folder: where the files are written; it is created if necessary.
    title: the name of the net in the prototxt.
    layers: (name, type, bottoms, top, lines of parameters) of each layer, in net order.
    weights: {layer: [arrays]}.
    labels: the names of the classes.

    Returns the size of the caffemodel in bytes. The same input always gives the same bytes. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    net, text = NetParameter(name=title), [f'name: "{title}"']
    for name, kind, bottoms, top, body in layers:
        layer = net.layer.add(name=name, type=kind, bottom=bottoms, top=[top])
        text += ["layer {", f'  name: "{name}"', f'  type: "{kind}"']
        text += [f'  bottom: "{b}"' for b in bottoms] + [f'  top: "{top}"'] + [f"  {line}" for line in body] + ["}"]
        for array in weights.get(name, ()):
            blob = layer.blobs.add()
            blob.shape.dim.extend(array.shape)
            blob.data.extend(np.ravel(np.asarray(array)).tolist())
    write(folder / "deploy.prototxt", "\n".join([*text, ""]).encode())
    write(folder / "labels.txt", "\n".join([*labels, ""]).encode())
    path = folder / f"{folder.name}.caffemodel"
    write(path, net.SerializeToString(deterministic=True))
    return path.stat().st_size

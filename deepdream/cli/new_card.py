"""Write the model card of an .onnx file: what can be seen in the file, with comments on what cannot."""
from __future__ import annotations

import os
from pathlib import Path

from ..convert.files import write_new
from ..errors import DreamError

CARD = """# {name}.onnx: {channels} channel(s), {width}x{height} pixels as declared, {layout}{classes}
# How pictures are prepared cannot be seen in the file: check mean, scale and channels with whoever trained the net.
mean = {mean}      # subtracted from the pixels, 0 to 255: one number, or one for each channel
scale = {scale}      # factor of the pixels after that
channels = "{order}"      # order of the channels; or "bgr"
layout = "{layout}"      # order of the input's axes
{input}# labels = "labels.txt"      # a file in this folder, with one class on each line
default_end = {end}      # the layer to dream at if none is named; `deepdream layers --model {name}.onnx` lists all
"""


def add_card(file: str | Path) -> Path:
    """Write the model card of a net, next to its file.

    file: the path of the .onnx file.

    Returns the path of the card. Raises DreamError if there is a card already, and what `Net` raises.
    """
    from .. import models
    from ..net import Net
    path = models.expanded(file)
    card = path.with_suffix(".toml")
    if path.suffix != ".onnx":
        raise DreamError(f"--add {file}: an .onnx file is needed")
    if os.path.lexists(card):
        raise DreamError(f"--add {file}: {card} exists; edit it, or remove it first")
    net = Net(path, device="cpu")
    if net.files.scale is None:
        raise DreamError(f"--add {file}: was converted from Caffe's files, and holds what a card would say")
    _, channels, height, width = net.facts.data_shape
    score = net.facts.classifier
    classes = f", {net.ends[score].channels} classes ({score})" if score else \
        f"; no classifier: {net.facts.no_classifier}"
    files = net.files
    text = CARD.format(
        name=path.stem, channels=channels, height=height, width=width, layout=files.layout, mean=_list(files.mean),
        scale=_list(files.scale), order="".join("rgb"[i] for i in files.channel_swap), end=_text(net.default_end),
        classes=" ".join(classes.split()), input=f"input = {_text(files.input)}\n" if files.input else "")
    return write_new(card, text.encode())


def _list(values):
    values = [float(f"{v:.8g}") for v in values]
    return str(values[0] if len(values) == 1 else values)


def _text(value):
    """Write a text in TOML, whose basic strings are those of JSON."""
    import json
    return json.dumps(value)

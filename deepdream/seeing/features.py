"""What the channels of a layer look for: a picture of each, dreamt from noise, and a sheet of all.

A sheet is a folder with one file for each channel, whose metadata decide whether it must be made again, and the sheet
itself, which can be made from these files.
"""
from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import pictures
from ..convert.errors import shown
from ..dream import check_dream, deepdream, octave_sizes, possible_octaves, visible
from ..engine.step import Step
from ..errors import DreamError
from ..goals.natural import Natural
from ..goals.objectives import objective_channel
from ..goals.text import goals
from ..net import Net
from ..options import Settings
from ..pictures.sheet import enlarged, grid
from ..pictures.starts import NOISE, grey, noise, start_size, starting_picture
from ..provenance import SOFTWARE, WOKEN, differences, is_dream, machine, provenance

TRIES = 24           # pictures to find one that excites a channel which is silent at first
FADED = 0.3          # the part of its contrast that remains
CONTRAST = 60.0      # their standard deviation, in levels
SIDE = 96            # pixels: smaller pictures are enlarged in the sheet
FREE = ("model", "pixels")      # parts of a picture's provenance that may differ: the net's checksum covers them


def chosen_channels(net: Net, text: str) -> tuple[str, list[int]]:
    """Return the layer and the channels that a text like "inception_4c/output[0-15,20]" names.

    net: the net.
    text: the name of a layer, or some of its channels as `goals.text` reads them.

    Returns (layer, numbers of the channels); no numbers if the text names none. Raises ConvertError for a layer that
    the net does not have, and DreamError for channels that it does not have, and for a layer without channels.
    """
    match = None if text in net.ends else re.fullmatch(r"(.+)\[(.*)\]", text)
    layer = net.checked(match[1] if match else text)
    if not net.ends[layer].channels:
        raise DreamError(f"'{layer}': its number of channels is not known, so there are none to choose from")
    if not match:
        return layer, []
    channels = goals(net, Settings(end=(text,)))["objective"].inputs.get("channels", [])
    if not len(channels):
        raise DreamError(f"{shown(text)}: is one neuron; give channels, as in {shown(layer)}[13,17]")
    objective_channel(channels).check_layer(layer, net.ends[layer].channels)
    return layer, [int(c) for c in channels]


def strongest(net: Net, end: str, img: np.ndarray, count: int) -> list[int]:
    """List the channels of a layer that a picture excites most, strongest first.

    A channel's strength is the root mean square of its values, relative to that in plain noise: without the division,
    the channels that are strong in every picture would come first.

    net: the net.
    end: the layer.
    img: the picture, (H, W, 3), RGB, 0 to 255.
    count: the maximum number of channels.
    """
    here, anywhere = (_strengths(net, end, picture) for picture in (img, noise(*img.shape[:2], seed=0, spread=50)))
    relative = here / (anywhere + anywhere.mean() + 1e-30)
    return [int(c) for c in np.argsort(-relative, kind="stable")[:count]]


def _natural_noise(h, w, seed):
    """Return noise with the colours and the frequencies of photographs, (h, w, 3)."""
    natural = Natural(1.0, (0, 1, 2)).sized(h, w)
    white = noise(h, w, seed % 2 ** 32) - NOISE[0]
    coloured = np.moveaxis(natural(np.moveaxis(white, 2, 0)[None], natural.inputs)[0], 0, 2)
    return np.clip(128 + CONTRAST / coloured.std() * coloured, 0, 255)


def _strengths(net, end, img):
    values = np.float64(net.features(img, end))
    return np.sqrt(np.square(values.reshape(len(values), -1)).mean(1))


@dataclass
class Feature:
    """What one channel looks for.

    channel: its number.
    path: the picture's file.
    metadata: settings and provenance, saved in the file.
    settings: the settings of its dream.
    picture: uint8 (h, w, 3); None if it is not made yet.
    reason: why it could not be made, or ''.
    """
    channel: int
    path: Path
    metadata: dict
    settings: Settings
    picture: np.ndarray | None = None
    reason: str = ""


class Features:
    """The pictures of some channels of a layer, in a folder.

    folder: path of the folder, which must exist before `run`.
    net: the net.
    end: the layer.
    channels: the numbers of the channels.
    settings: the settings of the dreams: where they start, octaves, steps, priors and the seed; the end is ignored.
    columns: the number of columns of the sheet; None: a grid that is nearly square.

    Raises DreamError for a layer without channels, for settings that do not suit the layer, and if a file of the folder
    would be overwritten that is not such a picture.
    """

    def __init__(self, folder: Path, net: Net, end: str, channels: Sequence[int], settings: Settings,
                 columns: int | None = None):
        self.folder, self.net, self.end, self.settings = Path(folder), net, net.checked(end), settings
        self._tries = None      # the pictures of `_exciting`, with the strength of each channel in them
        self.columns = columns or math.ceil(math.sqrt(len(channels)))
        name = re.sub(r"[^\w.+-]", "_", f"{net.name}-{end.replace('/', '.')}")[:150]
        self.sheet, self.features = self.folder / f"{name}.png", []
        for channel in channels:
            chosen = settings.replace(end=(f"{end}[{channel}]",))
            self.features.append(Feature(channel, self.folder / f"{name}-{channel:04d}.png",
                                         provenance(net, chosen.to_metadata()), chosen))
        first = goals(net, self.features[0].settings)
        self.sizes = possible_octaves(net, [end], octave_sizes(*start_size(settings), settings.octave_n,
                                                               settings.octave_scale))
        check_dream(net, Step(first["objective"], settings.clip, first["priors"]), self.sizes)
        for path in (self.sheet, *(feature.path for feature in self.features)):
            if path.exists() and not is_dream(path):
                raise DreamError(f"-o {folder}: would overwrite {path}, which is no picture of a feature, or a damaged "
                                 "one; give another folder")

    def resume(self) -> list[Feature]:
        """Read the pictures that exist and were made with the same settings. Returns the features that are missing."""
        for feature in self.features:
            saved = pictures.settings_if_any(feature.path)
            if saved and not differences(saved, feature.metadata, FREE):
                try:
                    feature.picture = pictures.to_uint8(pictures.load(feature.path))
                except DreamError:      # damaged
                    feature.picture = None
        return [feature for feature in self.features if feature.picture is None]

    def run(self, missing: Sequence[Feature], on_feature: Callable[[Feature], None] = lambda feature: None,
            on_step: Callable | None = None) -> None:
        """Make pictures, and save each as soon as it is finished; and the sheet, even after an interruption.

        missing: the features to make, from `resume`.
        on_feature: called before each of them.
        on_step: see `deepdream`.
        """
        try:
            for feature in missing:
                on_feature(feature)
                self._make(feature, on_step or (lambda *report: None))
        finally:
            if any(feature.picture is not None for feature in self.features):
                self.write_sheet()

    def _make(self, feature, on_step):
        """Dream a channel. If it is silent in the starting picture, start from noise that excites it.

        That noise is strong, and would still show. So the dream that it becomes, with its contrast reduced, is where
        a second dream starts.
        """
        start, woken = starting_picture(self.settings), {}
        dream = self._dream(feature, start, on_step)
        if dream is None and (found := self._exciting(feature.channel)) is not None:
            dream = self._dream(feature, found, on_step)
            if dream is not None:
                again = self._dream(feature, np.float32(start + FADED * (dream - dream.mean())).clip(0, 255), on_step)
                dream, woken = dream if again is None else again, {WOKEN: True}
        if dream is not None:
            feature.picture, feature.reason = pictures.to_uint8(visible(dream, self.settings.clip)), ""
            pictures.save(feature.picture, feature.path, {**feature.metadata, **machine(self.net), **woken})

    def _dream(self, feature, start, on_step):
        """Return a dream, or None if the channel's gradient is zero, with the reason in `feature`."""
        settings = feature.settings
        try:
            return deepdream(self.net, start, on_step=on_step, rng=np.random.RandomState(settings.seed),
                             **settings.steps, **goals(self.net, settings))
        except DreamError as error:
            feature.reason = str(error)

    def _exciting(self, channel):
        """Return the one of several pictures of noise that excites a channel most; None if none does."""
        if self._tries is None:
            self._tries = []
            for i in range(TRIES):
                picture = _natural_noise(*start_size(self.settings), self.settings.seed + i)
                self._tries.append((picture, _strengths(self.net, self.end, picture)))
        picture, strengths = max(self._tries, key=lambda found: found[1][channel])
        return picture if strengths[channel] > 0 else None

    def write_sheet(self) -> None:
        """Write the sheet of all pictures that are made, each with the number of its channel."""
        shown_ = [feature for feature in self.features if feature.picture is not None or feature.reason]
        blank = np.uint8(grey(*start_size(self.settings)))
        images = [enlarged(blank if feature.picture is None else feature.picture, SIDE) for feature in shown_]
        captions = [f"{feature.channel}" + ": silent" * bool(feature.reason) for feature in shown_]
        note = f"channels of {self.end}, {self.net.name}, from {self.settings.start}, seed {self.settings.seed}"
        metadata = {"software": SOFTWARE, "model": self.net.name, "checksum": self.net.checksum, "layer": self.end,
                    "channels": [feature.channel for feature in shown_]}
        pictures.save(grid(images, captions, note, self.columns), self.sheet, metadata)

"""Priors, which keep the picture of a dream natural. The notebook has none, and none is on by default.

A prior is written like an objective: a formula, a NumPy function, and the same function as ONNX nodes. It acts at one
place of a step:

    gradient    changes the gradient, before it is scaled to the step size
    penalty     subtracts its gradient, multiplied by its weight and the step size: at weight 1 it is as strong as the
                dream itself. (Its method `value` is the function with this gradient; `enhance` minimizes it.)
    picture     changes the picture after the step
    change      changes the difference that all of this has made to the picture
"""
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DreamError

if TYPE_CHECKING:
    from ..convert.graph import Graph, Tensor

LUMA = (0.299, 0.587, 0.114)                           # of R, G, B: ITU-R BT.601
PYRAMID = np.float32([1, 4, 6, 4, 1]) / 16             # Burt and Adelson 1983
SOFT = 1.0                                             # differences below this, of 255, count as flat


class Prior:
    """The base class of priors. A subclass implements `__call__` and `nodes`.

    formula: the effect of the prior, in one line.
    place: where in a step it acts: 'gradient', 'penalty', 'picture' or 'change'.
    inputs: the arrays that the nodes read, by name.
    """
    formula, place = "", ""

    def __init__(self, **inputs: np.ndarray):
        self.inputs = inputs

    @property
    def identity(self) -> object:
        """The part of a graph's cache key that stands for the prior's nodes.

        For a class of this module it is the name of the class; if its nodes depend on anything but its inputs, the
        class overrides this property, as Laplacian does. A custom prior can write any nodes, so it is identified by the
        object itself.
        """
        return type(self).__name__ if type(self).__module__ == __name__ else self

    def sized(self, h: int, w: int) -> "Prior":
        """Return the prior for pictures of h x w pixels, if its inputs depend on the size of the picture.

        Their numbers of axes and their types must not depend on it.
        """
        return self

    def carried(self, detail: np.ndarray) -> np.ndarray:
        """Return what an octave may start with of the detail from the octave before, (C, h, w).

        The prior is `sized` for this octave.
        """
        return detail

    def feeds(self, i: int, n: int) -> dict[str, np.ndarray]:
        """Return the inputs at step i of n, counted over all octaves. Called more than once per step."""
        return self.inputs

    def __call__(self, x: np.ndarray, feeds: dict[str, np.ndarray]) -> np.ndarray:
        """Apply the prior in NumPy. Tests compare `nodes` with it.

        x: the gradient, the picture with the mean subtracted, or its change, (1, C, H, W).
        feeds: the inputs, from `feeds`.

        Returns the new gradient, picture or change. A penalty returns its gradient with respect to x.
        """
        raise NotImplementedError

    def nodes(self, g: "Graph", x: "Tensor", inputs: dict[str, "Tensor"]) -> "Tensor":
        """Append the nodes that compute the same as `__call__` to a graph.

        g: the graph (a convert.graph.Graph).
        x: the gradient or the picture.
        inputs: the inputs of the prior, by name.
        """
        raise NotImplementedError


class TotalVariation(Prior):
    """Prefer smooth areas with sharp edges.

    weight: at 1, the penalty is as strong as the dream itself.
    """
    formula, place = "weight * sum sqrt(dx^2 + dy^2 + 1)", "penalty"

    def __init__(self, weight: float):
        super().__init__(weight=np.float32(weight))

    def value(self, x: np.ndarray, feeds: dict[str, np.ndarray]) -> float:
        """Return the penalty, of which `__call__` returns the gradient."""
        return feeds["weight"] * np.sum(self._edges(x)[2], dtype=np.float64)

    def __call__(self, x, feeds):
        dx, dy, length = self._edges(x)
        dx, dy = dx / length, dy / length
        total = -(dx + dy)
        total[..., 1:] += dx[..., :-1]
        total[..., 1:, :] += dy[..., :-1, :]
        return feeds["weight"] * total

    @staticmethod
    def _edges(x):
        """Return (dx, dy, length) of each pixel: its differences to the next ones, 0 at the last, and their length."""
        dx, dy = np.zeros_like(x), np.zeros_like(x)
        dx[..., :-1], dy[..., :-1, :] = np.diff(x, axis=3), np.diff(x, axis=2)
        return dx, dy, np.sqrt(dx * dx + dy * dy + np.float32(SOFT * SOFT))

    def nodes(self, g, x, inputs):
        dx, dy = (self._difference(g, x, axis) for axis in (3, 2))
        length = g.op("Sqrt", dx * dx + dy * dy + SOFT * SOFT)
        dx, dy = dx / length, dy / length
        return inputs["weight"] * (self._before(g, dx, 3) - dx + self._before(g, dy, 2) - dy)

    @staticmethod
    def _difference(g, x, axis):
        """Return the difference of each pixel to the next one along an axis; 0 at the last."""
        pads = [0] * 8
        pads[4 + axis] = 1
        return g.op("Pad", g.slice(x, [axis], [1], [2 ** 62]) - g.slice(x, [axis], [0], [-1]), pads)

    @staticmethod
    def _before(g, x, axis):
        """Return the value of the previous pixel along an axis; 0 at the first."""
        pads = [0] * 8
        pads[axis] = 1
        return g.op("Pad", g.slice(x, [axis], [0], [-1]), pads)


class Grey(Prior):
    """Pull colours towards the mean, so that none is stronger than it needs to be.

    weight: the strength of the penalty.
    """
    formula, place = "weight * sum x^2 / 256", "penalty"

    def __init__(self, weight: float):
        super().__init__(weight=np.float32(weight))

    def value(self, x: np.ndarray, feeds: dict[str, np.ndarray]) -> float:
        """Return the penalty, of which `__call__` returns the gradient."""
        return feeds["weight"] * np.sum(np.square(x, dtype=np.float64)) / 256

    def __call__(self, x, feeds):
        return feeds["weight"] * x / np.float32(128)

    def nodes(self, g, x, inputs):
        return inputs["weight"] * x / 128.0


class Blur(Prior):
    """Blur the picture with a Gaussian, after every step or after every few steps.

    sigma: the standard deviation, in pixels.
    every: blur after every Nth step.
    until: the standard deviation in the last step, to which it changes gradually; None for no change.
    """
    formula, place = "gaussian(x, sigma) every k steps", "picture"

    def __init__(self, sigma: float, every: int = 1, until: float | None = None):
        super().__init__()
        self.sigma, self.every, self.until = float(sigma), int(every), float(sigma if until is None else until)
        self.radius = max(1, math.ceil(3 * max(self.sigma, self.until)))

    def feeds(self, i, n):
        t = i / (n - 1) if n > 1 else 0.0
        sigma = 0.0 if (i + 1) % self.every else self.sigma + t * (self.until - self.sigma)
        at = np.arange(-self.radius, self.radius + 1)
        with np.errstate(over="ignore"):      # with a very small sigma
            kernel = np.exp(-0.5 * (at / sigma) ** 2) if sigma > 0 else at == 0
        return {"kernel": np.float32(kernel / kernel.sum())}

    def __call__(self, x, feeds):
        for axis in (3, 2):
            x = _correlate1d(x, feeds["kernel"], axis, mode="nearest")
        return x

    def nodes(self, g, x, inputs):
        shape, planes = g.shape(x), g.op("Transpose", x, perm=[1, 0, 2, 3])       # the channels as a batch
        radius = g.op("Div", g.shape(inputs["kernel"]), [2])
        for axis in (3, 2):
            zeros, ends = [0] * axis, [0] * (3 - axis)
            pads = g.op("Concat", *[p for p in (zeros, radius, ends, zeros, radius, ends) if p != []], axis=0)
            kernel = g.op("Reshape", inputs["kernel"], [1, 1, 1, -1] if axis == 3 else [1, 1, -1, 1])
            planes = g.op("Conv", g.op("Pad", planes, pads, mode="edge"), kernel)
        return g.op("Reshape", planes, shape)


class Laplacian(Prior):
    """Let details of all sizes grow alike.

    Each level of the gradient's Laplacian pyramid is scaled to a root mean square of 1, as in TensorFlow's DeepDream
    tutorial of 2015.

    levels: the number of levels of the pyramid.
    """
    formula, place = "sum over levels of L / rms(L)", "gradient"

    def __init__(self, levels: int = 4):
        super().__init__()
        self.levels = int(levels)

    identity = property(lambda self: f"Laplacian {self.levels}")      # the number of nodes depends on the levels

    def __call__(self, x, feeds):
        bands = []
        for _ in range(self.levels):
            low = self._down(x)
            bands.append(x - self._up(low, x.shape))
            x = low
        x = self._scaled(x)
        for band in bands[::-1]:
            x = self._up(x, band.shape) + self._scaled(band)
        return x

    @staticmethod
    def _down(x):
        for axis in (2, 3):
            x = _correlate1d(x, PYRAMID, axis, mode="constant")
        return x[:, :, ::2, ::2]

    @staticmethod
    def _up(x, shape):
        wide = np.zeros((*x.shape[:2], *shape[2:]), x.dtype)
        wide[:, :, ::2, ::2] = x
        for axis in (2, 3):
            wide = _correlate1d(wide, 2 * PYRAMID, axis, mode="constant")
        return wide

    @staticmethod
    def _scaled(x):
        return x / max(float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))), 1e-10)

    def nodes(self, g, x, inputs):
        def channels_as_batch(t):
            return g.op("Transpose", t, perm=[1, 0, 2, 3])

        kernel = np.outer(PYRAMID, PYRAMID)[None, None]
        x, bands, shapes = channels_as_batch(x), [], []

        def up(low, shape):
            wide = g.op("ConvTranspose", low, 4 * kernel, strides=[2, 2])
            return g.slice(wide, [2, 3], [2, 2], g.op("Add", shape, [2, 2]))

        def scaled(t):
            mean = t * t
            for axis in (3, 2, 0, 1):
                mean = g.op("ReduceMean", mean, axes=[axis])
            return t / g.op("Max", g.op("Sqrt", mean), 1e-10)

        for _ in range(self.levels):
            shapes.append(g.shape(x, start=2))
            low = g.op("Conv", x, kernel, strides=[2, 2], pads=[2] * 4)
            bands.append(x - up(low, shapes[-1]))
            x = low
        x = scaled(x)
        for band, shape in zip(bands[::-1], shapes[::-1]):
            x = up(x, shape) + scaled(band)
        return channels_as_batch(x)


class Luminance(Prior):
    """Dream in luminance only, so that the picture keeps its colours.

    All channels of a pixel change alike. Colours change only where the picture reaches black or white.

    channel_swap: the order of the net's channels, as in `Net`.
    """
    formula, place = "0.299 g_R + 0.587 g_G + 0.114 g_B in each channel", "gradient"

    def __init__(self, channel_swap: Sequence[int] = (2, 1, 0)):
        luma = np.float32(LUMA)[list(channel_swap)]
        super().__init__(luma=luma.reshape(1, -1, 1, 1))

    def __call__(self, x, feeds):
        return np.broadcast_to((x * feeds["luma"]).sum(1, keepdims=True), x.shape) if x.shape[1] > 1 else x

    def nodes(self, g, x, inputs):
        return g.op("Expand", g.op("ReduceSum", x * inputs["luma"], [1]), g.shape(x))


class Mask(Prior):
    """Change the picture only where a mask is bright, and in part where it is grey.

    mask: (H, W), 0 to 1. It is scaled to the size of each octave.
    """
    formula, place = "mask * change", "change"

    def __init__(self, mask: np.ndarray):
        super().__init__(mask=np.float32(mask)[None, None])

    def sized(self, h, w):
        mask = self.inputs["mask"][0, 0]
        if mask.shape == (h, w):
            return self
        from scipy.ndimage import zoom
        return Mask(zoom(mask, (h / mask.shape[0], w / mask.shape[1]), order=1).clip(0, 1))

    def carried(self, detail):
        return detail * (self.inputs["mask"][0] > 0)

    def __call__(self, x, feeds):
        return x * feeds["mask"]

    def nodes(self, g, x, inputs):
        return x * inputs["mask"]


class Gain(Prior):
    """Multiply each change of the picture, by a factor of its own for each pixel.

    gain: the factors, (H, W), from 0. They are scaled to the size of each octave.
    """
    formula, place = "gain * change", "change"

    def __init__(self, gain: np.ndarray):
        super().__init__(gain=np.float32(gain)[None, None])

    def sized(self, h, w):
        gain = self.inputs["gain"][0, 0]
        if gain.shape == (h, w):
            return self
        from scipy.ndimage import zoom
        return Gain(zoom(gain, (h / gain.shape[0], w / gain.shape[1]), order=1))

    def carried(self, detail):
        return detail * (self.inputs["gain"][0] > 0)

    def __call__(self, x, feeds):
        return x * feeds["gain"]

    def nodes(self, g, x, inputs):
        return x * inputs["gain"]


def _correlate1d(*arguments, **keywords):
    from scipy.ndimage import correlate1d  # slow to import, and needed only for steps in NumPy
    return correlate1d(*arguments, **keywords)


def at_place(priors: Sequence[Prior], place: str) -> list[tuple[int, Prior]]:
    """List the priors that act at one place of a step, each with its number."""
    return [(i, p) for i, p in enumerate(priors) if p.place == place]


def prior_feeds(priors: Sequence[Prior], i: int = 0, n: int = 1) -> dict[str, np.ndarray]:
    """Return the arrays that the nodes of the priors are fed with at step i of n, by the names of the inputs."""
    return {f"prior{p}:{k}": np.asarray(v) for p, prior in enumerate(priors) for k, v in prior.feeds(i, n).items()}


def need_unshifted(priors: Sequence[Prior]) -> bool:
    """Return whether a prior works on the picture itself, which must then not stay shifted by the jitter."""
    return any(prior.place != "gradient" for prior in priors)


def sized(priors: Sequence[Prior], h: int, w: int) -> tuple[Prior, ...]:
    """Return priors for pictures of h x w pixels."""
    return tuple(prior.sized(h, w) for prior in priors)


def carried(priors: Sequence[Prior], detail: np.ndarray) -> np.ndarray:
    """Return what an octave may start with of the detail from the octave before, (C, h, w)."""
    for prior in sized(priors, *detail.shape[-2:]):
        detail = prior.carried(detail)
    return detail


def as_priors(priors: Iterable[Prior]) -> tuple[Prior, ...]:
    """Return priors as a tuple. Raises DreamError if one is not a Prior."""
    priors = tuple(priors)
    for prior in priors:
        if not isinstance(prior, Prior):
            raise DreamError(f"{prior!r} is not a prior; see deepdream.goals.priors")
    return priors

"""What keeps a dream natural, beside the objective. The notebook has none of it, and all of it is off unless asked for.

A prior is written like an objective: a line of formula, a NumPy function, and the same as ONNX nodes. It acts at one
place of a step:

    gradient    on the gradient, before it is scaled to the step size
    penalty     its own gradient is subtracted, `weight` times, in units of the step: 1 is as strong as the dream itself
                (`value` is what that is the gradient of; `enhance` minimizes it)
    picture     on the picture after the step
"""
import math
from collections.abc import Sequence

import numpy as np

from ..errors import DreamError

LUMA = (0.299, 0.587, 0.114)                           # of R, G, B: ITU-R BT.601
PYRAMID = np.float32([1, 4, 6, 4, 1]) / 16             # Burt and Adelson 1983
SOFT = 1.0                                             # levels: below it, a difference counts as flat


class Prior:
    """What every prior has.

    formula: what it does, in one line.
    place: where in a step it acts: 'gradient', 'penalty' or 'picture'.
    inputs: the arrays that its nodes read, by name.
    """
    formula, place = "", ""

    def __init__(self, **inputs):
        self.inputs = inputs

    @property
    def identity(self):
        """What decides which nodes are written, as a text; a prior of the user's own may write anything, so only the
        object itself says what it is."""
        return type(self).__name__ if type(self).__module__ == __name__ else self

    def feeds(self, i: int, n: int) -> dict:
        """The inputs at step i of n, counted over all octaves. Asked for more than once a step."""
        return self.inputs

    def __call__(self, x, feeds):
        """What takes the place of x, (1, C, H, W): the gradient, or the picture less the mean. A penalty returns its
        gradient by x. `nodes` is compared with this."""
        raise NotImplementedError

    def nodes(self, g, x, inputs):
        """The same as nodes of the graph g. x: a Tensor; inputs: {name: Tensor}."""
        raise NotImplementedError


class TotalVariation(Prior):
    """Prefer smooth areas with sharp edges."""
    formula, place = "weight * sum sqrt(dx^2 + dy^2 + 1)", "penalty"

    def __init__(self, weight: float):
        super().__init__(weight=np.float32(weight))

    def value(self, x, feeds):
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
        """(dx, dy, length), each in the shape of x: the differences to the next pixel, 0 at the last."""
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
        """To the next pixel; 0 at the last."""
        pads = [0] * 8
        pads[4 + axis] = 1
        return g.op("Pad", g.slice(x, [axis], [1], [2 ** 62]) - g.slice(x, [axis], [0], [-1]), pads)

    @staticmethod
    def _before(g, x, axis):
        """What stands at the pixel before; 0 at the first."""
        pads = [0] * 8
        pads[axis] = 1
        return g.op("Pad", g.slice(x, [axis], [0], [-1]), pads)


class Grey(Prior):
    """Pull colours back towards the mean, so that none is stronger than it needs to be."""
    formula, place = "weight * sum x^2 / 256", "penalty"

    def __init__(self, weight: float):
        super().__init__(weight=np.float32(weight))

    def value(self, x, feeds):
        return feeds["weight"] * np.sum(np.square(x, dtype=np.float64)) / 256

    def __call__(self, x, feeds):
        return feeds["weight"] * x / np.float32(128)

    def nodes(self, g, x, inputs):
        return inputs["weight"] * x / 128.0


class Blur(Prior):
    """Blur the picture every so many steps, by a Gaussian.

    sigma: its standard deviation, in pixels.
    every: blur once in so many steps.
    until: the standard deviation in the last step, if it changes on the way.
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
        with np.errstate(over="ignore"):      # by a sigma that is next to nothing
            kernel = np.exp(-0.5 * (at / sigma) ** 2) if sigma > 0 else at == 0
        return {"kernel": np.float32(kernel / kernel.sum())}

    def __call__(self, x, feeds):
        for axis in (3, 2):
            x = _correlate1d(x, feeds["kernel"], axis, mode="nearest")
        return x

    def nodes(self, g, x, inputs):
        shape, one = g.shape(x), g.op("Transpose", x, perm=[1, 0, 2, 3])       # a channel at a time
        radius = g.op("Div", g.shape(inputs["kernel"]), [2])
        for axis in (3, 2):
            zeros, ends = [0] * axis, [0] * (3 - axis)
            pads = g.op("Concat", *[p for p in (zeros, radius, ends, zeros, radius, ends) if p != []], axis=0)
            kernel = g.op("Reshape", inputs["kernel"], [1, 1, 1, -1] if axis == 3 else [1, 1, -1, 1])
            one = g.op("Conv", g.op("Pad", one, pads, mode="edge"), kernel)
        return g.op("Reshape", one, shape)


class Laplacian(Prior):
    """Let details of all sizes grow alike: scale each level of the gradient's Laplacian pyramid to a standard deviation
    of 1 (TensorFlow's DeepDream tutorial of 2015)."""
    formula, place = "sum over levels of L / rms(L)", "gradient"

    def __init__(self, levels: int = 4):
        super().__init__()
        self.levels = int(levels)

    identity = property(lambda self: f"Laplacian {self.levels}")      # each level has nodes of its own

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
        def one_channel(t):
            return g.op("Transpose", t, perm=[1, 0, 2, 3])

        kernel = np.outer(PYRAMID, PYRAMID)[None, None]
        x, bands, shapes = one_channel(x), [], []

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
        return one_channel(x)


class Luminance(Prior):
    """Dream in the luminance only: all channels of a pixel change alike, so the source keeps its colours (except where
    it reaches black or white)."""
    formula, place = "0.299 g_R + 0.587 g_G + 0.114 g_B in each channel", "gradient"

    def __init__(self, channel_swap: Sequence[int] = (2, 1, 0)):
        luma = np.float32(LUMA)[list(channel_swap)]
        super().__init__(luma=luma.reshape(1, -1, 1, 1))

    def __call__(self, x, feeds):
        return np.broadcast_to((x * feeds["luma"]).sum(1, keepdims=True), x.shape) if x.shape[1] > 1 else x

    def nodes(self, g, x, inputs):
        return g.op("Expand", g.op("ReduceSum", x * inputs["luma"], [1]), g.shape(x))


def _correlate1d(*arguments, **more):
    from scipy.ndimage import correlate1d  # takes long to import, and only the reference needs it
    return correlate1d(*arguments, **more)


def at_place(priors: Sequence[Prior], place: str) -> list[tuple[int, Prior]]:
    """The priors that act at one place of a step, each with its number."""
    return [(i, p) for i, p in enumerate(priors) if p.place == place]


def prior_feeds(priors: Sequence[Prior], i: int = 0, n: int = 1) -> dict[str, np.ndarray]:
    """The arrays that the nodes of the priors are fed with at step i of n, by the names of their inputs."""
    return {f"prior{p}:{k}": np.asarray(v) for p, prior in enumerate(priors) for k, v in prior.feeds(i, n).items()}


def need_unshifted(priors: Sequence[Prior]) -> bool:
    """Does one of the priors look at the picture itself, which then must not be left shifted by the jitter?"""
    return bool(at_place(priors, "penalty") or at_place(priors, "picture"))


def as_priors(priors) -> tuple[Prior, ...]:
    """Priors as a tuple. Raises DreamError for what is no prior."""
    for prior in priors:
        if not isinstance(prior, Prior):
            raise DreamError(f"{prior!r} is not a prior; see deepdream.goals.priors")
    return tuple(priors)

"""A prior that dreams in a space of natural colours and frequencies, where photographs are about white noise.

In photographs, the three colour channels are strongly correlated, and so are neighbouring pixels: large structures are
strong and fine ones are weak, and those of colour even more so. A gradient in pixels knows nothing of this, so that a
class dreamt from noise is fine-grained, green and magenta. This prior multiplies the gradient, in the principal colours
and in Fourier space, with the amplitudes that photographs have. That is gradient ascent on z, where

    picture = colours . F^-1( sqrt(amplitude) . z ),     amplitude = deviation / frequency^exponent

The idea is that of lucid (Olah, Mordvintsev, Schubert: Feature Visualization, Distill 2017), whose steps are Adam's.
The numbers were measured on 432 photographs of things and of places.
"""
from collections.abc import Sequence

import numpy as np

from .priors import Prior

# The principal colours of photographs, one a row, in R, G, B: brightness; blue to yellow; green to magenta
COLOURS = np.float32([[0.565, 0.573, 0.594], [-0.680, -0.083, 0.728], [0.467, -0.815, 0.343]])
DEVIATIONS = (111.0, 33.3, 17.1)      # the standard deviations of photographs along them, in levels
EXPONENTS = (1.2, 2.1, 2.1)           # their amplitudes fall as 1 / frequency^exponent


class Natural(Prior):
    """Let structures grow as strong as photographs have them, by colour and by size.

    strength: from 0 (all frequencies alike) over 1 (as in photographs) to more: the exponents are multiplied with it.
    channel_swap: the order of the net's channels, as in `Net`; (0,) for a net for grey pictures.
    size: (h, w) of the pictures; None for a prior that is not `sized` yet.
    """
    formula, place = "colours . F^-1(amplitude . F(colours^T . g))", "gradient"

    def __init__(self, strength: float = 1.0, channel_swap: Sequence[int] = (2, 1, 0),
                 size: tuple[int, int] | None = None):
        self.strength, self.channel_swap, self.size = float(strength), tuple(channel_swap), size
        h, w = size or (1, 1)
        count = len(self.channel_swap)
        colours = COLOURS[:, list(channel_swap)] if count == 3 else np.ones((1, 1), np.float32)
        super().__init__(colours=colours, rows=_hartley(h), columns=_hartley(w),
                         amplitudes=self._amplitudes(h, w)[None, :count])

    identity = property(lambda self: "Natural")

    def sized(self, h, w):
        return self if self.size == (h, w) else Natural(self.strength, self.channel_swap, (h, w))

    def _amplitudes(self, h, w):
        """Return the amplitude of each frequency, (3, h, w).

        The lowest frequency is as strong as the next ones. The root mean squares are in the ratio of the deviations.
        """
        frequency = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.fftfreq(w))
        falling = [np.maximum(frequency, 1 / max(h, w)) ** (-exponent * self.strength) for exponent in EXPONENTS]
        return np.float32([deviation / DEVIATIONS[0] * amplitude / np.sqrt(np.mean(amplitude ** 2))
                           for deviation, amplitude in zip(DEVIATIONS, falling)])

    def __call__(self, x, feeds):
        colours = feeds["colours"]
        parts = np.fft.fft2(np.einsum("kc,nchw->nkhw", colours, x)) * feeds["amplitudes"]
        return np.float32(np.einsum("kc,nkhw->nchw", colours, np.fft.ifft2(parts).real))

    def nodes(self, g, x, inputs):
        shape, flat, colours = g.shape(x), g.op("Concat", g.shape(x, start=1, end=2), [-1], axis=0), inputs["colours"]
        y = g.op("Reshape", g.op("MatMul", colours, g.op("Reshape", x, flat)), shape)
        y = self._transformed(g, self._transformed(g, y, inputs) * inputs["amplitudes"], inputs)
        y = g.op("MatMul", g.op("Transpose", colours, perm=[1, 0]), g.op("Reshape", y, flat))
        return g.op("Reshape", y, shape)

    @staticmethod
    def _transformed(g, x, inputs):
        """Append the Hartley transform of the rows and columns.

        It is its own inverse. With amplitudes that are the same for f and -f, a filter in its space is one in Fourier
        space, in real numbers: two products of matrices, for which every device has a fast kernel.
        """
        return g.op("MatMul", g.op("MatMul", inputs["rows"], x), inputs["columns"])


def _hartley(n):
    """Return the matrix of the Hartley transform of n numbers, cos + sin of 2 pi i j / n, orthonormal and symmetric."""
    turns = np.outer(np.arange(n), np.arange(n)) % n * (2 * np.pi / n)
    return np.float32((np.cos(turns) + np.sin(turns)) / np.sqrt(n))

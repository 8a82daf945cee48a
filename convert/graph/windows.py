"""The geometry of a window that a convolution or a pooling moves over a picture."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# the maximum kernel, stride or dilation for which a derivative is built: the number of nodes grows with them
MAX_WINDOW = 512


@dataclass(frozen=True)
class Window:
    """A window that moves over a picture. All fields have one number for each spatial axis, in pixels.

    kernel: the number of pixels that the window covers.
    stride: the distance from one window to the next.
    dilation: the distance between neighbouring pixels of the window.
    before, after: the padding before and after the picture.
    """
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @classmethod
    def of(cls, attributes: dict, kernel: Sequence[int] | None = None) -> Window:
        """Read the window of a Conv, ConvTranspose or pooling node.

        attributes: those of the node.
        kernel: the spatial shape of the weights, for a convolution without the attribute kernel_shape.

        Raises ValueError if the padding depends on the size of the picture.
        """
        kernel = tuple(attributes.get("kernel_shape") or kernel)
        n = len(kernel)
        stride, dilation = (tuple(attributes.get(name) or [1] * n) for name in ("strides", "dilations"))
        auto = attributes.get("auto_pad", b"NOTSET")
        auto = auto.decode() if isinstance(auto, bytes) else auto
        if auto == "NOTSET":
            pads = list(attributes.get("pads") or [0] * 2 * n)
        elif auto == "VALID":
            pads = [0] * 2 * n
        elif set(stride) == {1}:
            total = [d * (k - 1) for k, d in zip(kernel, dilation)]
            small, large = [t // 2 for t in total], [t - t // 2 for t in total]
            pads = small + large if auto == "SAME_UPPER" else large + small
        else:
            raise ValueError(f"auto_pad {auto} with a stride depends on the size of the picture; export with explicit "
                             "pads")
        if attributes.get("ceil_mode", 0):
            # add the padding with which rounding down gives as many windows as rounding up; no window may start in
            # the padding
            pads[n:] = [min(p + s - 1, d * (k - 1)) for p, s, k, d in zip(pads[n:], stride, kernel, dilation)]
        return cls(kernel, stride, dilation, tuple(pads[:n]), tuple(pads[n:]))

    @property
    def reach(self) -> list[int]:
        """The distance from the first to the last pixel of a window."""
        return [d * (k - 1) for k, d in zip(self.kernel, self.dilation)]

    @property
    def slack(self) -> list[int]:
        """How many more positions than pixels there are for a window with stride 1: the padding minus the reach."""
        return [b + a - r for b, a, r in zip(self.before, self.after, self.reach)]

    @property
    def pads(self) -> list[int]:
        """The padding as in ONNX's attribute `pads`."""
        return [*self.before, *self.after]

    def fits(self, size: Sequence[int]) -> bool:
        """Tell whether at least one window fits into a picture of this size."""
        return all(n + slack >= 1 for n, slack in zip(size, self.slack))


def windows(size: int, slack: int, stride: int) -> int:
    """Return the number of windows along an axis. size: pixels. slack, stride: as in `Window`."""
    return (size + slack - 1) // stride + 1


def has_fixed_pads(attributes: dict) -> bool:
    """Tell whether a node has explicit padding and rounds its output size down."""
    return not attributes.get("ceil_mode", 0) and attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", "NOTSET")

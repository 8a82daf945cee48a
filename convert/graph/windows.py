"""How a convolution or a pooling moves its window over a picture."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MOST = 512          # of a window, a stride, a dilation, for which there is a derivative: beyond it there would be nodes
                    # without end


@dataclass(frozen=True)
class Window:
    """A window that moves over a picture: one number an axis.

    kernel: pixels that it sees. stride: pixels from one window to the next. dilation: from one of its pixels to the next.
    before, after: pixels of padding.
    """
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @classmethod
    def of(cls, attributes: dict, kernel: Sequence[int] | None = None) -> Window:
        """The window of a Conv, ConvTranspose or pooling node.

        attributes: of the node. kernel: of a convolution whose node does not tell it.
        Raises ValueError where the padding depends on the size of the picture.
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
            raise ValueError(f"auto_pad {auto} with a stride depends on the size of the picture; export with explicit pads")
        if attributes.get("ceil_mode", 0):
            # so much padding that rounding down gives the windows of rounding up; none may start in the padding
            pads[n:] = [min(p + s - 1, d * (k - 1)) for p, s, k, d in zip(pads[n:], stride, kernel, dilation)]
        return cls(kernel, stride, dilation, tuple(pads[:n]), tuple(pads[n:]))

    @property
    def reach(self) -> list[int]:
        """Pixels from the window's first to its last."""
        return [d * (k - 1) for k, d in zip(self.kernel, self.dilation)]

    @property
    def slack(self) -> list[int]:
        """Places for the window's first pixel beyond the size of the picture: pads less the reach."""
        return [b + a - r for b, a, r in zip(self.before, self.after, self.reach)]

    @property
    def pads(self) -> list[int]:
        """The padding as ONNX writes it."""
        return [*self.before, *self.after]

    def fits(self, size: Sequence[int]) -> bool:
        """Is there room for one window in a picture of this size?"""
        return all(n + slack >= 1 for n, slack in zip(size, self.slack))


def windows(size: int, slack: int, stride: int) -> int:
    """How many windows there are along an axis. slack: as of `Window.slack`."""
    return (size + slack - 1) // stride + 1


def has_fixed_pads(attributes: dict) -> bool:
    """Does a node say its padding itself, with sizes rounded down?"""
    return not attributes.get("ceil_mode", 0) and attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", "NOTSET")

"""A graph that is ready to run on a device."""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..runtime.device import Device, readable

if TYPE_CHECKING:
    import onnxruntime


class Session:
    """An onnxruntime session with errors of one line, and with fixed memory for captured CUDA graphs.

    session: an onnxruntime.InferenceSession, from `Device.session`.
    device: the device that it runs on.
    size: (h, w) of the only pictures that it runs on; None if their sizes differ.

    Attributes:
    inputs: the names of the graph's inputs.
    """

    def __init__(self, session: onnxruntime.InferenceSession, device: Device, size: tuple[int, int] | None = None):
        self.device, self.size = device, size
        self._session = session
        self.inputs = {value.name for value in session.get_inputs()}
        self._captured = {}      # {shapes of the inputs and outputs: (their OrtValues, number of the captured graph)}

    def run(self, outputs: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Run the graph on NumPy arrays.

        outputs: the names of the outputs to compute.
        feeds: the inputs by name.

        Returns the outputs. Raises DreamError if the graph cannot run at this size.
        """
        picture = next((array for array in feeds.values() if array.ndim == 4), None)
        with readable(*picture.shape[-2:] if picture is not None else (0, 0)):
            return self._session.run(outputs, feeds)

    def run_bound(self, binding: onnxruntime.IOBinding, options: onnxruntime.RunOptions | None, h: int, w: int) -> None:
        """Run the graph on bound inputs and outputs.

        binding: from `binding`, with all inputs and outputs bound.
        options: the options of the run.
        h, w: the size of the picture, for error messages.

        Raises DreamError if the graph cannot run at this size.
        """
        with readable(h, w):
            self._session.run_with_iobinding(binding, options)

    def binding(self) -> onnxruntime.IOBinding:
        """Return a new, empty binding of inputs and outputs."""
        return self._session.io_binding()

    def places(self, arrays: dict[str, np.ndarray]) -> tuple[dict[str, onnxruntime.OrtValue], int]:
        """Copy arrays to the device, for bindings whose values change from step to step.

        A captured CUDA graph reads and writes the memory that it was captured with. Arrays of the same shapes as before
        are therefore copied to the same memory, and the graphs that were captured with it are used again.

        arrays: the arrays by name.

        Returns ({name: OrtValue}, n): the graphs captured with these values have the numbers n and n + 1.
        """
        shapes = tuple((name, a.shape, a.dtype.str) for name, a in arrays.items())
        if not self.device.captures or shapes not in self._captured:
            places = {name: self.device.place(np.array(a, order="C")) for name, a in arrays.items()}
            if not self.device.captures:
                return places, 1
            self._captured[shapes] = places, 1 + 2 * len(self._captured)
            return self._captured[shapes]
        for name, value in arrays.items():
            self._captured[shapes][0][name].update_inplace(np.asarray(value, order="C"))
        return self._captured[shapes]

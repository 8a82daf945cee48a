"""A graph made ready to run on a device."""
import numpy as np

from ..runtime.device import Device, readable


class Session:
    """An onnxruntime session with what this project wants of it.

    session: an onnxruntime.InferenceSession, from `Device.session`.
    size: (h, w) of the only pictures that it will see; None if there will be several.
    """

    def __init__(self, session, device: Device, size: tuple[int, int] | None = None):
        self.device, self.size = device, size
        self._session = session
        self.inputs = {i.name for i in session.get_inputs()}
        self._captured = {}      # {the shapes of the inputs and outputs: (their places, the number of the captured graph)}

    def run(self, outputs: list[str], feeds: dict) -> list:
        """Run the graph on NumPy arrays. Raises DreamError, in one line, where it cannot run at this size."""
        picture = next((array for array in feeds.values() if array.ndim == 4), None)
        with readable(*picture.shape[-2:] if picture is not None else (0, 0)):
            return self._session.run(outputs, feeds)

    def run_bound(self, binding, options, h: int, w: int):
        """Run the graph on what a binding names. h, w: the size of the picture, for errors."""
        with readable(h, w):
            self._session.run_with_iobinding(binding, options)

    def binding(self):
        """A new, empty binding of inputs and outputs."""
        return self._session.io_binding()

    def places(self, arrays: dict):
        """Copies of arrays on the device, which the steps then change: ({name: OrtValue}, a number for a captured graph).

        What a captured graph reads and writes must stay where it was when it was captured. So the places of the last
        stepper whose arrays had the same shapes are used again, and its two numbers.
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

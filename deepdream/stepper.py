"""Running a step graph over one octave, with the picture on the device."""
import numpy as np

from .device import readable
from .errors import DreamError


class Stepper:
    """Runs a step graph over one octave: the picture goes up once, is stepped, and comes down when it is asked for.

    picture: float32 (1, C, H, W), as Caffe's data blob holds it.
    """

    def __init__(self, session, device, objective, picture):
        if len(picture) != 1:
            raise DreamError(f"one picture at a time can be dreamt, not a batch of {len(picture)}")
        self.session, self.device = session, device
        self.h, self.w = picture.shape[-2:]
        self._picture = device.place(np.ascontiguousarray(picture, np.float32))
        self._fixed = {k: device.place(v) for k, v in objective.inputs.items()}

    def step(self, ox, oy, step_size):
        """One make_step with jitter (ox, oy). Returns (objective, mean |gradient|), both before the step."""
        binding, place = self.session.io_binding(), self.device.place
        rows, columns = np.arange(self.h), np.arange(self.w)
        index = {"rows": (rows - oy) % self.h, "columns": (columns - ox) % self.w,
                 "rows_back": (rows + oy) % self.h, "columns_back": (columns + ox) % self.w}
        # on the CPU an OrtValue only points at its array: all are held until the run is over
        held = {name: place(value.astype(np.int64)) for name, value in index.items()}
        held |= {"step_size": place(np.array(step_size, np.float32)), "picture": self._picture, **self._fixed}
        for name, value in held.items():
            binding.bind_ortvalue_input(name, value)
        where = "cuda" if self.device.is_cuda else "cpu"
        binding.bind_output("next_picture", where, self.device.index)
        binding.bind_output("objective", "cpu")
        binding.bind_output("mean_abs", "cpu")
        with readable(self.h, self.w):
            self.session.run_with_iobinding(binding)
        self._picture, objective, mean = binding.get_outputs()
        return float(objective.numpy()), float(mean.numpy())

    def picture(self):
        """The picture as it is now, (1, C, H, W)."""
        return self._picture.numpy()

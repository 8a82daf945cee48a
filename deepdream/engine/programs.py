"""The graphs that a net runs, and their sessions: built once, kept on disk where that is possible, a few kept ready."""
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .. import convert
from ..convert.errors import about
from ..runtime.cache import cached, graph_key
from ..runtime.device import Device
from .session import Session
from .step import Step

READY = 4         # sessions kept ready at a time; each holds its own copy of the weights
CAPTURED = 16     # and where steps are captured, each for its size


class Program(NamedTuple):
    """A graph to run.

    key: what tells it from other graphs of the same net.
    build: makes it; returns the serialized ModelProto.
    keep: where the graph is kept: on 'disk', if the key is text and so says all that it is made from; in 'memory', until
    another one is made; or nowhere (None).
    """
    key: tuple
    build: Callable[[], bytes]
    keep: str | None


class Programs:
    """The programs of one net on one device.

    files: those of the net: `proto` reads the forward graph, `release()` forgets it; `checksum`; `prototxt` is what errors
    name.
    bias: the net's mean, (C, 1, 1), by which pictures are clipped.
    """

    def __init__(self, files, bias: np.ndarray, device: Device, threads: int | None = None):
        self.files, self.bias = files, bias
        self.device, self.threads = device, threads
        self._sessions, self._last_built = OrderedDict(), (None, None)

    # ---- what there is to run

    def forward(self, data: str, tensors: list[str]) -> Program:
        """From the input `data` to tensors of the forward graph."""
        def build():
            from onnx.utils import Extractor
            with about(self.files.prototxt):
                extracted = Extractor(self.files.proto).extract_model([data], tensors)
                del extracted.graph.value_info[:]
                return extracted.SerializeToString()

        return Program(("forward", *tensors), build, None)

    def gradient(self, end: str) -> Program:
        """The gradient graph of one layer."""
        return self._of_gradient((end,), [end], lambda graph: graph, "disk")

    def objective(self, step: Step, tile: bool = False) -> Program:
        """The objective of a step and its gradient by the picture (tile: by a tile of it)."""
        from .graphs import objective_graph  # with onnx, which a graph on disk does without
        what, keep = _parts(step.objective, ())
        return self._of_gradient(("tile" if tile else "objective", *what), step.ends,
                                 lambda graph: objective_graph(graph, step, tile), keep)

    def step(self, step: Step) -> Program:
        """The whole step."""
        def around(graph):
            from .graphs import step_graph
            return step_graph(graph, step, self.bias if step.clip else None)

        what, keep = _parts(step.objective, step.priors)
        return self._of_gradient(("step", str(self.bias.tolist()) if step.clip else None, *what), step.ends, around, keep)

    def _of_gradient(self, key, ends, around, keep):
        def build():
            with about(self.files.prototxt):
                graph = convert.gradient_graph(self.files.proto, ends[0] if len(ends) == 1 else ends)
            self.files.release()      # not to hold the weights twice during a dream
            return around(graph).SerializeToString()

        return Program(key, build, keep)

    # ---- running it

    def graph(self, program: Program) -> bytes:
        """The serialized graph: from where it is kept, or built now."""
        if program.keep is None:
            return program.build()
        if program.keep == "disk":
            return cached(f"{graph_key(self.files.checksum, *program.key)}.onnx", program.build)
        if self._last_built[0] != program.key:      # the octaves of a dream ask for the same one after the other
            self._last_built = program.key, program.build()
        return self._last_built[1]

    def session(self, program: Program, size: tuple[int, int] | None = None, steps: int = 1) -> Session:
        """A session of a program.

        size, steps: (h, w) of the only pictures that it will see now, and how many steps it will run for them. Where
        that is much work, the session is made for this size alone, in which the same sums are computed faster.
        """
        if size is not None and not self.device.fixes_size(*size, steps):
            size = None
        name = (*program.key, size) if self.device.captures else program.key
        session = self._sessions.pop(name, None)
        if session is None or session.size != size:
            session = None                                       # free the old one first: each has memory of its own
            self.device.announce()
            while len(self._sessions) >= (CAPTURED if self.device.captures else READY):
                self._sessions.popitem(last=False)
            session = Session(self.device.session(self.graph(program), self.threads, size, self.files.prototxt), self.device, size)
        self._sessions[name] = session
        return session

    def move(self, device: Device):
        """Run on another device from now on."""
        if device is not self.device:
            self.device = device
            self._sessions.clear()


def _parts(objective, priors):
    """What the nodes of an objective and of priors depend on, as a part of a key, and where such a graph is kept."""
    terms = [(term.end, term.identity, weight != 1) for weight, term in objective.terms]
    identities = [identity for _, identity, _ in terms] + [prior.identity for prior in priors]
    plain = all(isinstance(identity, str) for identity in identities)
    return (*terms, *(prior.identity for prior in priors)), "disk" if plain else "memory"

"""The graphs that a net runs, and their sessions. Graphs are cached on disk, and a few sessions in memory."""
from __future__ import annotations

import contextlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from .. import convert
from ..convert.errors import about
from ..runtime.cache import cached, graph_key
from ..runtime.device import Device
from .session import Session
from .step import Step


READY = 4         # the maximum number of cached sessions: each has its own copy of the weights
CAPTURED = 16     # the same with captured CUDA graphs, where there is one session for each size


class Program(NamedTuple):
    """A graph to run.

    key: distinguishes the graph from other graphs of the same net.
    build: builds the graph and returns the serialized ModelProto.
    keep: where the graph is cached: on 'disk', if the key consists of text and numbers and so describes the graph
        completely; in 'memory', until another graph is built; or nowhere (None).
    """
    key: tuple
    build: Callable[[], bytes]
    keep: str | None


class Programs:
    """The programs of one net on one device.

    files: the files of the net (see `net.files.Files`).
    bias: the net's mean, (C, 1, 1), to clip pictures with.
    device: the device that sessions run on.
    threads: the number of CPU threads; None leaves it to onnxruntime.
    """

    def __init__(self, files, bias: np.ndarray, device: Device, threads: int | None = None):
        self.files, self.bias = files, bias
        self.device, self.threads = device, threads
        self.sessions, self._last_built = OrderedDict(), (None, None)
        self._single_steps, self._reuses_sizes = Counter(), False      # {(program, size): steps asked for one by one}

    # ---- the programs

    def forward(self, data: str, tensors: list[str]) -> Program:
        """Return the program that computes tensors of the forward graph.

        data: the name of the graph's input.
        tensors: the names of the tensors.
        """
        def build():
            from onnx.utils import Extractor
            with about(self.files.prototxt):
                extracted = Extractor(self.files.proto).extract_model([data], tensors)
                del extracted.graph.value_info[:]
                return extracted.SerializeToString()

        return Program(("forward", *tensors), build, None)

    def gradient(self, end: str) -> Program:
        """Return the program of the gradient graph of one layer."""
        return self._around_gradient((end,), [end], lambda graph: graph, "disk")

    def objective(self, step: Step, tile: bool = False) -> Program:
        """Return the program that computes an objective and its gradient with respect to the picture.

        step: the step, of which only the objective is used.
        tile: whether the picture is a tile of a larger one (see `graphs.objective_graph`).
        """
        from .graphs import objective_graph  # imports onnx, which is slow and not needed for a graph in the cache
        parts, keep = _key_parts(step.objective, ())
        return self._around_gradient(("tile" if tile else "objective", *parts), step.ends,
                                     lambda graph: objective_graph(graph, step, tile), keep)

    def step(self, step: Step) -> Program:
        """Return the program of a whole step (see `graphs.step_graph`)."""
        def around(graph):
            from .graphs import step_graph
            return step_graph(graph, step, self.bias if step.clip else None)

        parts, keep = _key_parts(step.objective, step.priors)
        bias = str(self.bias.tolist()) if step.clip else None
        return self._around_gradient(("step", bias, *parts), step.ends, around, keep)

    def _around_gradient(self, key, ends, around, keep):
        """Return a program whose graph is `around(gradient graph of the ends)`, in the forms for the device."""
        forms, half = self.device.forms, self.device.half

        def build():
            with about(self.files.prototxt):
                graph = convert.gradient_graph(self.files.proto, ends[0] if len(ends) == 1 else ends, device=forms)
                graph = convert.half_precision(graph) if half else graph
            self.files.release()      # so that the weights are not in memory twice during a dream
            return around(graph).SerializeToString()

        return Program((*key, forms, *["half"] * half), build, keep)

    # ---- running them

    def graph(self, program: Program) -> bytes:
        """Return the serialized graph of a program, from the cache or newly built."""
        if program.keep is None:
            return program.build()
        if program.keep == "disk":
            return cached(f"{graph_key(self.files.checksum, *program.key)}.onnx", program.build)
        if self._last_built[0] != program.key:      # the octaves of a dream ask for the same graph one after another
            self._last_built = program.key, program.build()
        return self._last_built[1]

    def session(self, program: Program, size: tuple[int, int] | None = None, steps: int = 1) -> Session:
        """Return a session of a program, from the cache or a new one.

        program: the program.
        size: (h, w) of the only pictures that the session will see now; None if their sizes differ.
        steps: the number of steps that it will run at this size. If that is much work, the session is created for this
            size only, which makes it faster without changing the results. Single steps, each requested by itself, count
            together.
        """
        if size is not None and steps == 1:
            self._single_steps[program.key, size] += 1
            steps = self._single_steps[program.key, size]
        name = self._name(program, size)
        if size is not None and not self.device.fixes_size(*size, steps) \
                and (name not in self.sessions or self.sessions[name].size != size):
            size, name = None, self._name(program, None)
        session = self.sessions.pop(name, None)
        if session is None or session.size != size:
            session = None      # frees the memory of the old session before the new one is created
            self.device.announce()
            while len(self.sessions) >= (CAPTURED if self.device.captures else READY):
                self.sessions.popitem(last=False)
            session = Session(self.device.session(self.graph(program), self.threads, size, self.files.prototxt),
                              self.device, size)
        self.sessions[name] = session
        return session

    def _name(self, program, size):
        return (*program.key, size) if self.device.captures or self._reuses_sizes else program.key

    @contextlib.contextmanager
    def reusing_sizes(self) -> Iterator[None]:
        """Keep the sessions of several sizes inside of the `with`, for dreams of the same octaves one after another.

        Each session takes memory for the weights only, since the memory of the steps is freed after each octave.
        """
        before, self._reuses_sizes = self._reuses_sizes, not self.device.is_cuda
        try:
            yield
        finally:
            self._reuses_sizes = before
            if not before and not self.device.captures:
                self.sessions.clear()

    def move(self, device: Device) -> None:
        """Run on another device from now on."""
        if device is not self.device:
            self.device = device
            self.sessions.clear()


def _key_parts(objective, priors):
    """Return the parts of a program's key that describe an objective and priors, and where such a graph is cached."""
    terms = [(term.end, term.identity, weight != 1) for weight, term in objective.terms]
    identities = [identity for _, identity, _ in terms] + [prior.identity for prior in priors]
    all_text = all(isinstance(identity, str) for identity in identities)
    return (*terms, *(prior.identity for prior in priors)), "disk" if all_text else "memory"

"""What a frame is dreamt at: the objective of its time, and in between two ENDs a mixture of theirs."""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..dream import deepdream
from ..errors import NoGradient
from ..goals.text import goals
from ..options import Settings
from .timeline import Timeline

if TYPE_CHECKING:
    from ..net import Net


class Ends:
    """The objectives of a film over time.

    net: the net.
    settings: the settings of the dream; their `end` is ignored.
    timeline: the ENDs.
    guide: the picture of the guide, (H, W, 3), or None.

    Attributes:
    strengths: {number of a group of ENDs: the mean of its |gradient|}, measured where it is first mixed with another.

    The gradients of two layers can differ a thousandfold in size. In a mixture they count as their shares say, so each
    is divided by its strength. The weights are inputs of the graph, so that there is one graph for a whole fade.
    """

    def __init__(self, net: Net, settings: Settings, timeline: Timeline, guide: np.ndarray | None = None):
        self.net, self.timeline, self.strengths = net, timeline, {}
        self.groups = [goals(net, settings.replace(end=group), guide) for group in timeline.groups]
        self._measured = {name: settings.steps[name] for name in ("clip", "tile", "step_size")}

    def at(self, seconds: float, frame: np.ndarray) -> dict:
        """Return the arguments `end`, `objective` and `priors` of `deepdream`.

        seconds: the time of the frame.
        frame: the frame, (H, W, 3), at which the strengths are measured if they are not known yet.
        """
        i, share = self.timeline.at(seconds)
        if share == 1:
            return self.groups[i]
        before, after = (self._strength(n, frame) for n in (i - 1, i))
        weights = (1 - share), share * before / after
        old, new = (self.groups[n]["objective"] * (w / sum(weights)) for n, w in zip((i - 1, i), weights))
        return self.groups[i] | {"objective": old + new}

    def _strength(self, i, frame):
        if str(i) not in self.strengths:
            found = []
            try:
                deepdream(self.net, frame, iter_n=1, octave_n=1, jitter=0, seed=0,
                          on_step=lambda octave, step, vis, report: found.append(report.mean_abs),
                          **self._measured, **self.groups[i])
            except NoGradient:      # a black frame: measure at the next one
                return 1.0
            self.strengths[str(i)] = found[0]
        return self.strengths[str(i)]

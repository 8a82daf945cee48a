"""How many dreams of a gallery can be made at the same time in the memory of the machine."""
from __future__ import annotations

import heapq
from collections.abc import Sequence

from ..engine import memory
from ..engine.step import Step
from ..goals.objectives import objective_L2
from ..runtime.free_memory import free_memory


def at_once(dreams: Sequence, size: tuple[int, int], n: int) -> tuple[int, float]:
    """Find out how many dreams at a time fit into the memory that is free.

    dreams: the `gallery.Dream`s to make.
    size: (h, w) of the picture.
    n: how many are wanted.

    Returns the number, from 1 to n, and the bytes that this number of the largest dreams takes. Whether a single one
    fits is checked when it is made.
    """
    free = free_memory()
    if n <= 1 or free is None or not dreams:
        return n, 0.0
    largest = heapq.nlargest(n, _needs(dreams, size))
    while n > 1 and sum(largest[:n]) > free:
        n -= 1
    return n, sum(largest[:n])


def _needs(dreams, size):
    """Return the bytes that each dream takes. It is measured once for each net, at the deepest of its ends."""
    needs = {}
    for dream in sorted(dreams, key=_place):      # of each net, the deepest one comes last
        needs[dream.model, dream.settings.tile] = dream.net, list(dream.net.ends)[_place(dream)]
    needs = {key: memory.needed(net, Step(objective_L2.at(end), tile=key[1] or None), size)
             for key, (net, end) in needs.items()}
    return [needs[dream.model, dream.settings.tile] for dream in dreams]


def _place(dream):
    """Return the place of the dream's end among those of its net; the last one for an end that is no layer's name."""
    ends = list(dream.net.ends)
    return ends.index(dream.end) if dream.end in ends else len(ends) - 1

"""The layers at which a gallery dreams, and their layout in rows, from low to high."""
from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import convert
from ..errors import DreamError
from ..models.cards import LEVELS

if TYPE_CHECKING:
    from ..net import Net


def levels(net: Net) -> dict[str, str]:
    """Assign a level to every end of a net.

    A level reaches up to the last end that the model card lists for it; without a card it is a third of the net.

    Returns {end: 'low', 'middle' or 'high'}, in net order.
    """
    names = list(net.ends)
    listed = card_ends(net)
    low, middle = (max((names.index(e) for e in listed[level]), default=-1) for level in LEVELS[:2])
    if not (listed["low"] and listed["middle"]):
        low, middle = len(names) // 3, 2 * len(names) // 3
    return {name: LEVELS[(i > low) + (i > middle)] for i, name in enumerate(names)}


def card_ends(net: Net) -> dict[str, list[str]]:
    """Return {level: ends} from a net's model card.

    Without a card, the ends are the outputs of the net's blocks or, if it has no blocks, all layers with a spatial
    size; the first third of them is low, the last third high.
    """
    listed = net.card.ends if net.card else {}
    listed = {level: [e for e in listed.get(level, []) if e in net.ends] for level in LEVELS}
    if any(listed.values()):
        return listed
    spatial = [e for e, facts in net.ends.items() if facts.stride is not None and e not in net.inputs]
    blocks = [e for e in spatial if e.endswith(("/output", "/concat"))]
    names = blocks if len(blocks) >= 6 else spatial
    cuts = [round(i * len(names) / 3) for i in range(4)]
    return {level: names[a:b] for level, a, b in zip(LEVELS, cuts, cuts[1:])}


def table(words: Sequence[str], nets: dict[str, Net]) -> list[tuple[str, dict[str, str]]]:
    """Return the rows of a gallery.

    words: of the option --ends; see `chosen_ends`. Without any, the rows are those of `default_rows`.
    nets: {model: Net}.

    Returns [(level, {model: end})], from low to high. Raises the errors of `chosen_ends`.
    """
    return rows(chosen_ends(words, nets), nets) if words else default_rows(nets)


def ends_of(table: list[tuple[str, dict[str, str]]], nets: dict[str, Net]) -> dict[str, list[str]]:
    """Return {model: the ends in its rows, in net order}. The arguments are the result and the nets of `table`."""
    return {m: [e for e in net.ends if e in {row.get(m) for _, row in table}] for m, net in nets.items()}


def default_rows(nets: dict[str, Net]) -> list[tuple[str, dict[str, str]]]:
    """Lay out six rows or fewer, the first and the last end of each level, so that nets can be compared.

    nets: {model: Net}. A net that has all layers of the first net's rows dreams at the same layers. Any other net
    dreams at its own, next to those of the first net that are as low or as high.

    Returns [(level, {model: end})], from low to high. Raises DreamError for a net without a layer to dream at.
    """
    places = [(level, i) for level in LEVELS for i in (0, -1)]
    found, first = {place: {} for place in places}, None
    for model, net in nets.items():
        listed, ends = card_ends(net), {}
        for level, i in places:
            if listed[level] and listed[level][i] not in ends.values():
                ends[level, i] = listed[level][i]
        if not ends:
            raise DreamError(f"{model} has no layer with positions to dream at; --ends names others")
        first = first or ends
        for place, end in (first if all(e in net.ends for e in first.values()) else ends).items():
            found[place][model] = end
    return [(level, row) for (level, _), row in found.items() if row]


def chosen_ends(words: Sequence[str], nets: dict[str, Net]) -> dict[str, list[str]]:
    """Find the ends that the option --ends chooses.

    words: of the option: names of layers, glob patterns, 'low', 'middle', 'high' or 'all'.
    nets: {model: Net}.

    An end that is chosen for one net is chosen for every other net that has it, so that rows can be compared.
    Returns {model: its ends, in net order}. Raises ConvertError for a word that matches no end of any net, and
    DreamError if nothing is chosen for one of the nets.
    """
    every = set()
    for word in words:
        found = {end for net in nets.values() for end in _matching(word, net)}
        if not found:
            raise convert.no_such_end(word, list(dict.fromkeys(e for net in nets.values() for e in net.ends)))
        every |= found
    chosen = {model: [e for e in net.ends if e in every] for model, net in nets.items()}
    for model, ends in chosen.items():
        if not ends:
            raise DreamError(f"--ends {' '.join(words)}: {model} has none of these layers; "
                             "low, middle, high and all mean something for every model")
    return chosen


def _matching(word, net):
    if word in LEVELS:
        return card_ends(net)[word]
    return [e for e in net.ends if word == "all" or fnmatch.fnmatchcase(e, word)]


def rows(chosen: dict[str, list[str]], nets: dict[str, Net]) -> list[tuple[str, dict[str, str]]]:
    """Lay out the ends of a gallery in rows.

    chosen: {model: its ends}, from `chosen_ends`.
    nets: {model: Net}.

    An end that several nets have is one row. Ends that only one net has are put in rows by their depth within the
    level, so that nets which share no layer names can be compared.
    Returns [(level, {model: end})], from low to high.
    """
    counts = Counter(e for ends in chosen.values() for e in ends)
    level_of = {model: levels(net) for model, net in nets.items()}
    depth = {(m, e): i / len(net.ends) for m, net in nets.items() for i, e in enumerate(net.ends)}
    found = []
    for end in dict.fromkeys(e for ends in chosen.values() for e in ends if counts[e] > 1):
        row = {m: end for m, ends in chosen.items() if end in ends}
        found.append((level_of[next(iter(row))][end], row))
    for level in LEVELS:
        single = {m: [e for e in ends if counts[e] == 1 and level_of[m][e] == level] for m, ends in chosen.items()}
        longest = max(single, key=lambda m: len(single[m]))
        lines = [{longest: e} for e in single[longest]]
        for model, ends in single.items():
            for i, end in enumerate(ends):
                lines[int((i + 0.5) * len(lines) / len(ends))][model] = end
        found += [(level, row) for row in lines]
    order = list(chosen)

    def place(row):
        level, ends = row
        return LEVELS.index(level), sum(depth[item] for item in ends.items()) / len(ends)
    return [(level, {m: row[m] for m in order if m in row}) for level, row in sorted(found, key=place)]

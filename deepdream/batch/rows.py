"""Which layers a gallery dreams at, and how they are laid out in rows, from low to high."""
import fnmatch
from collections import Counter

from .. import convert
from ..errors import DreamError
from ..models.cards import LEVELS


def levels(net):
    """{end: 'low', 'middle' or 'high'} for all ends of a net, in net order.

    A level reaches up to the last end that the model's record has for it; without a record it is a third of the net.
    """
    names = list(net.ends)
    known = record_ends(net)
    low, middle = (max((names.index(e) for e in known[level]), default=-1) for level in LEVELS[:2])
    if not (known["low"] and known["middle"]):
        low, middle = len(names) // 3, 2 * len(names) // 3
    return {name: LEVELS[(i > low) + (i > middle)] for i, name in enumerate(names)}


def record_ends(net):
    """{level: ends} from the model's record; without one, the outputs of the net's blocks, else all that have a place,
    in thirds."""
    given = net.card.ends if net.card else {}
    given = {level: [e for e in given.get(level, []) if e in net.ends] for level in LEVELS}
    if any(given.values()):
        return given
    flat = [e for e, facts in net.ends.items() if facts.stride is not None and e not in net.inputs]
    blocks = [e for e in flat if e.endswith(("/output", "/concat"))]
    names = blocks if len(blocks) >= 6 else flat
    cuts = [round(i * len(names) / 3) for i in range(4)]
    return {level: names[a:b] for level, a, b in zip(LEVELS, cuts, cuts[1:])}


def chosen_ends(words, nets):
    """What `--ends` means: {model: its ends, in net order}.

    words: names of layers, globs, 'low', 'middle', 'high', 'all'; none: two of each level. nets: {model: Net}. What one
    net is asked for, every other net that has it dreams at too, so that rows can be compared.
    """
    wanted = set()
    for word in words or [None]:
        found = {end for net in nets.values() for end in _matching(word, net)}
        if not found:
            raise convert.no_such_end(word, list(dict.fromkeys(e for net in nets.values() for e in net.ends)))
        wanted |= found
    chosen = {model: [e for e in net.ends if e in wanted] for model, net in nets.items()}
    for model, ends in chosen.items():
        if not ends:
            raise DreamError(f"--ends {' '.join(words)}: {model} has none of these layers; "
                             "low, middle, high and all mean something for every model")
    return chosen


def _matching(word, net):
    if word is None:      # the first and the last of each level
        return {ends[i] for ends in record_ends(net).values() if ends for i in (0, -1)}
    if word in LEVELS:
        return record_ends(net)[word]
    return [e for e in net.ends if word == "all" or fnmatch.fnmatchcase(e, word)]


def rows(chosen, nets):
    """The rows of a gallery, from low to high: [(level, {model: end})].

    An end that several models share is a row. What only one model has stands beside what only the others have, by its
    place within the level: nets that share no layer names are compared by depth.
    """
    counts = Counter(e for ends in chosen.values() for e in ends)
    of = {model: levels(net) for model, net in nets.items()}
    depth = {(m, e): i / len(net.ends) for m, net in nets.items() for i, e in enumerate(net.ends)}
    made = []
    for end in dict.fromkeys(e for ends in chosen.values() for e in ends if counts[e] > 1):
        row = {m: end for m, ends in chosen.items() if end in ends}
        made.append((of[next(iter(row))][end], row))
    for level in LEVELS:
        lone = {m: [e for e in ends if counts[e] == 1 and of[m][e] == level] for m, ends in chosen.items()}
        longest = max(lone, key=lambda m: len(lone[m]))
        beside = [{longest: e} for e in lone[longest]]
        for model, ends in lone.items():
            for i, end in enumerate(ends):
                beside[int((i + 0.5) * len(beside) / len(ends))][model] = end
        made += [(level, row) for row in beside]
    order = list(chosen)

    def place(row):
        level, ends = row
        return LEVELS.index(level), sum(depth[item] for item in ends.items()) / len(ends)
    return [(level, {m: row[m] for m in order if m in row}) for level, row in sorted(made, key=place)]

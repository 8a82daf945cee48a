"""The page of a gallery."""
from __future__ import annotations

import itertools
from collections import Counter


def page(gallery) -> str:
    """Return the contents of a gallery's index.html."""
    import jinja2
    env = jinja2.Environment(loader=jinja2.PackageLoader(__package__), autoescape=True, trim_blocks=True,
                             lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    env.filters["breakable"] = _breakable
    guides = {g.sha256: g.path.name for g in gallery.guides}
    cells = {(d.model, d.end, *_variant(d)): d for d in gallery.dreams}
    variants = list(dict.fromkeys(key[2:] for key in cells))
    table = [{"level": level, "ends": ends, "title": " · ".join(dict.fromkeys(ends.values())),
              "variants": [{"octave_n": v[0], "label": _label(v, variants, guides),
                            "cells": [cells.get((m["name"], ends.get(m["name"]), *v)) for m in gallery.models]}
                           for v in variants]} for level, ends in gallery.rows]
    groups = [(level, list(part)) for level, part in itertools.groupby(table, lambda row: row["level"])]
    return env.get_template("gallery.html").render(
        summary=gallery.summary(), groups=groups, models=gallery.models, octave_ns=sorted({v[0] for v in variants}),
        counts=Counter(d.status for d in gallery.dreams), total=len(gallery.dreams))


def _variant(dream):
    """Return what differs between the dreams of one net at one layer: octaves, guide and seed."""
    return dream.settings.octave_n, dream.guide and dream.guide.sha256, dream.settings.seed


def _label(variant, variants, guides):
    """Describe a variant in words; the seed is left out if all variants have the same one."""
    octave_n, guide, seed = variant
    parts = [f"{octave_n} octave{'s' * (octave_n > 1)}", guide and f"guide {guides[guide]}", f"seed {seed}"]
    shown = [True, True, len({v[2] for v in variants}) > 1]
    return ", ".join(part for part, show in zip(parts, shown) if part and show)


def _breakable(name):
    """Return the name of a model or layer as HTML in which lines may break after _ and /."""
    import markupsafe
    text = str(markupsafe.escape(name))
    return markupsafe.Markup(text.replace("_", "_<wbr>").replace("/", "/<wbr>"))

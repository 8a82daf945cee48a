"""The report of `regress`: as a table, as JSON, and as an HTML page with the pictures."""
from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from .. import __version__, pictures
from . import power, statistics
from .check import NEGATIVES

if TYPE_CHECKING:
    from tqdm import tqdm

    from .check import Checked, Run

CAUGHT = {"no": "caught", "doubtful": "doubtful", "fits": "MISSED"}


def failed(checked: Sequence[Checked]) -> list[str]:
    """Describe what went wrong, one line for each picture that does not fit and each mistake that was not noticed."""
    misfits = [c for c in checked if not c.negative and c.verdict == "no" and not _explained(c, checked)]
    lines = [f"{c.case.title}: this installation does not dream what the reference shows "
             f"({', '.join(c.out) or 'all together'})" for c in misfits]
    for key, z in across(checked).items():
        if abs(z) >= statistics.ACROSS:
            lines.append(f"all pictures together: {statistics.STATISTICS[key].name} is out by {z:.1f}")
    for key in dict.fromkeys(c.negative for c in checked if c.negative and NEGATIVES[c.negative].must):
        if not noticed(key, checked):
            lines.append(f"{NEGATIVES[key].title}: not noticed in any picture")
    return lines


def across(checked: Sequence[Checked], negative: str | None = None) -> dict[str, float]:
    """Return what `statistics.across` finds in the pictures that were dreamt with a mistake, or in those without any.

    Of two checks of one picture, only the one with leftover diffs counts, because Google's net had them.
    """
    chosen = [c for c in checked if c.negative == negative and not _explained(c, checked)]
    return statistics.across([c.results for c in chosen]) if chosen else {}


def noticed(negative: str, checked: Sequence[Checked]) -> bool:
    """Return whether a mistake is noticed: in a picture that fits without it, or in all pictures together."""
    seen = [c for c in checked if c.negative == negative and not _explained(c, checked)]
    return any(c.verdict == "no" for c in seen) or \
        any(abs(z) >= statistics.ACROSS for z in across(checked, negative).values())


def _explained(c, checked):
    """Return whether the picture fits with leftover diffs, which Google's net had; then a fresh net need not fit."""
    return not c.case.after and any(o.case.after and o.case.file == c.case.file and not o.negative
                                    and o.verdict != "no" for o in checked)


def summary(run: Run, checked: Sequence[Checked], reference: str, seeds: Sequence[int]) -> dict:
    """Return the report as plain data, for JSON and the page.

    run: how our dreams were made.
    checked: from `check.regress`.
    reference: where the reference pictures come from, for people.
    seeds: of our dreams.
    """
    return {"software": f"deepdream {__version__}", "net": run.net.name, "checksum": run.net.checksum,
            "device": run.net.device.name, "reference": reference, "seeds": list(seeds), "failed": failed(checked),
            "limits": {"no": statistics.NO, "together_doubtful": statistics.DOUBTFUL,
                       "together_no": statistics.WRONG, "across": statistics.ACROSS},
            "across": _rows(across(checked)), "power": _power(run, checked, len(seeds)),
            "pictures": [_summary_of(c) for c in checked if not c.negative],
            "negatives": [{**_summary_of(c), "negative": c.negative, "title": NEGATIVES[c.negative].title,
                           "caught": c.verdict == "no"} for c in checked if c.negative]}


def _rows(z_of):
    return [{"statistic": key, "name": statistics.STATISTICS[key].name, "z": float(z)} for key, z in z_of.items()]


def _power(run, checked, seeds):
    """Return how often a check with this number of seeds notices each mistake, if that was measured for this net."""
    right = [c for c in checked if not c.negative and c.case.frames == 1]      # in a zoom no mistakes were made
    if not any(power.calibration_of(c.case.name, run.net.name, c.reference.shape[:2]) for c in right):
        return []
    nearest = min(power.SEEDS, key=lambda n: (abs(n - seeds), n))
    return [{"negative": key, "title": NEGATIVES[key].title if key else "none (a false alarm)", "seeds": nearest,
             "share": shares[power.SEEDS.index(nearest)]} for key, shares in power.POWER.items()]


def _summary_of(c):
    rows = [{**asdict(r), "rank": list(r.rank), "name": statistics.STATISTICS[r.statistic].name,
             "unit": statistics.STATISTICS[r.statistic].unit, "fits": bool(r.fits)} for r in c.results]
    rows = [{k: float(v) if isinstance(v, np.floating) else v for k, v in row.items()} for row in rows]
    return {"case": c.case.name, "picture": c.case.title, "end": c.case.end, "verdict": c.verdict,
            "together": c.together, "statistics": rows}


def table(summary: dict) -> str:
    """Return the report as text for a terminal. summary: from `summary`."""
    lines, width = [], max(len(s.name) + len(s.unit) for s in statistics.STATISTICS.values()) + 2
    for p in summary["pictures"]:
        lines += [f"{p['picture']}: {p['verdict']} (all together {p['together']:.2f})",
                  f"  {'':{width}}  {'reference':>9}  {'ours':>19}  {'z':>6}  {'rank':>4}"]
        for r in p["statistics"]:
            span = f"{_short(r['low'])} to {_short(r['high'])}"
            flag = "" if r["fits"] else "  <- no"
            name = f"{r['name']}, {r['unit']}"
            lines.append(f"  {name:{width}}  {_short(r['value']):>9}  {span:>19}  {r['z']:6.1f}  "
                         f"{r['rank'][0]:>2}/{r['rank'][1]}{flag}")
        lines.append("")
    if summary["across"]:
        lines += ["all pictures together: " + ", ".join(f"{r['name']} {r['z']:+.1f}" for r in summary["across"]), ""]
    if summary["power"]:
        lines.append(f"how often a mistake in one picture is noticed with {summary['power'][0]['seeds']} seeds:")
        width = max(len(p["title"]) for p in summary["power"])
        lines += [f"  {p['title']:{width}}  {p['share']:4.0%}" for p in summary["power"]] + [""]
    if summary["negatives"]:
        lines.append("mistakes made on purpose:")
        width = max(len(n["title"]) for n in summary["negatives"])
        for n in summary["negatives"]:
            out = ", ".join(r["statistic"] for r in n["statistics"] if not r["fits"]) or "-"
            lines.append(f"  {n['title']:{width}}  {n['case']:14} {CAUGHT[n['verdict']]:8} "
                         f"{n['together']:6.1f}  {out}")
        lines.append("")
    lines += summary["failed"] or ["every reference could be one more dream of this installation"
                                   if all(p["verdict"] == "fits" for p in summary["pictures"]) else
                                   "the check passed, but not every picture fits; see above"]
    return "\n".join(lines)


def _short(v):
    return f"{v:.4g}" if abs(v) < 1000 else f"{v:.3e}" if abs(v) >= 1e6 else f"{v:.0f}"


def page(summary: dict, checked: Sequence[Checked]) -> str:
    """Return the report as an HTML page that contains the pictures: reference, one of our dreams, and the difference.

    summary: from `summary`.
    checked: from `check.regress`.
    """
    import base64

    import jinja2

    def uri(picture):
        return "data:image/jpeg;base64," + base64.b64encode(pictures.encode(picture, quality=88)).decode()

    shown = [c for c in checked if not c.negative]
    images = [{"reference": uri(c.reference), "ours": uri(c.ours[0]), "difference": uri(128 + c.reference - c.ours[0])}
              for c in shown]
    environment = jinja2.Environment(loader=jinja2.PackageLoader(__package__), autoescape=True,
                                     trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("regress.html").render(summary=summary, images=images, short=_short)


def bar(total: int, quiet: bool = False) -> tqdm:
    """Return a progress bar.

    total: from `check.work`.
    quiet: show nothing.
    """
    from tqdm import tqdm
    return tqdm(total=total, file=sys.stderr, leave=False, disable=quiet or not sys.stderr.isatty(), dynamic_ncols=True,
                bar_format="{desc} |{bar}| {percentage:3.0f}%  {elapsed}, {remaining} left")

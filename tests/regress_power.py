"""Measure what `deepdream regress` can tell apart: the tables of deepdream/regress/power.py.

First make dreams, right ones and wrong ones, which takes hours on a CPU:

    deepdream regress --seeds 8 --negatives --zoom --keep dreams/
    python tests/regress_power.py dreams/ --model MODEL --reference originals/ --extra caffe/

`--extra` names a folder with dreams by real Caffe (`inception_4c_output_seed0.jpg`, ...), which count as right ones.
Each picture is measured once, as the net of its run sees it; the figures are saved in dreams/measured. References are
seen by each net that is wrong, too, because that is what happens in a wrong installation.

Then many checks are drawn: a reference for each case from the right pictures, and as many dreams as there are seeds
from those of a mistake, or from the other right ones. Printed are the spreads of the statistics and the share of these
checks that noticed something.
"""
import argparse
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np      # noqa: E402

import deepdream      # noqa: E402
from deepdream import pictures      # noqa: E402
from deepdream.regress import check, originals, power, statistics      # noqa: E402

CAFFE = {"4c": "inception_4c_output", "guided_3b": "guided_inception_3b_output",
         "3b_5x5_reduce_leftover": "inception_3b_5x5_reduce_leftover_diffs", "zoom": "zoom_frame_0029_legacy_affine"}
SEES_OTHERWISE = ["mean", "mean_order", "places_mean", "swapped", "net"]      # mistakes whose net measures differently
DRAWS = 400


class Measurements:
    """The statistics of pictures, each computed once and saved.

    run: the right run.
    source: the pictures of Google.
    folder: where to save them.
    """

    def __init__(self, run, source, folder):
        self.runs, self.source, self.folder = {None: run}, source, folder
        folder.mkdir(exist_ok=True)

    def of(self, case, path, mistake=None):
        """Return the statistics of a picture, as the net of a mistake's run sees it."""
        seen = mistake if mistake in SEES_OTHERWISE else None
        file = self.folder / f"{case.name}-{seen or 'right'}-{path.stem}.npz"
        if not file.exists():
            if seen not in self.runs:
                self.runs[seen] = check.NEGATIVES[seen].make(self.runs[None])
            print(f"measuring {path.name} ({seen or 'right'})", file=sys.stderr, flush=True)
            np.savez(file, **check.measure(self.runs[seen], case, self.source.sky, self.source.guide,
                                           pictures.load(path)))
        with np.load(file) as saved:
            return {key: saved[key] for key in statistics.STATISTICS}


def spreads(right):
    """Return {statistic: spread} of a sample, as `statistics.STATISTICS` defines it."""
    found = {}
    for key in statistics.STATISTICS:
        values = np.array([m[key] for m in right])
        if values.shape[1] == 1:
            logs = np.log(values[:, 0])
        else:
            pairs = ((values[:, None] - values[None]) ** 2).mean(2)
            logs = np.log(pairs.sum(1) / (len(values) - 1))
        found[key] = round(float(logs.std(ddof=1)), 4)
    return found


def share_noticed(references, samples, n, rng):
    """Return the share of DRAWS checks with n seeds that notice something.

    references, samples: {case: list of statistics}. A reference that is in the sample, too, is left out of it.
    """
    noticed = 0
    for _ in range(DRAWS):
        checks = []
        for case, sample in samples.items():
            reference = references[case][rng.integers(len(references[case]))]
            others = [m for m in sample if m is not reference]
            chosen = rng.permutation(len(others))[:n]
            checks.append(statistics.compare(reference, [others[i] for i in chosen], power.CALIBRATIONS.get(case)))
        noticed += any(statistics.verdict(c) == "no" for c in checks) or \
            max(map(abs, statistics.across(checks).values())) >= statistics.ACROSS
    return noticed / DRAWS


def main():
    """Print both tables as Python."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dreams", type=Path)
    parser.add_argument("--model", default="bvlc_googlenet")
    parser.add_argument("--reference", required=True, help="the folder with Google's pictures")
    parser.add_argument("--extra", type=Path, help="a folder with dreams by real Caffe")
    args = parser.parse_args()
    source = originals.read(args.reference)
    run = check.Run(deepdream.Net(args.model, device="cpu"))
    measured = Measurements(run, source, args.dreams / "measured")
    cases = {c.name: c for c in (*check.CASES, check.ZOOM)
             if c.name in CAFFE and any(args.dreams.glob(f"{c.name}_seed*.png"))}

    ours = {name: [measured.of(c, p) for p in sorted(args.dreams.glob(f"{name}_seed*.png"))]
            for name, c in cases.items()}
    caffes = {name: [measured.of(c, p) for p in sorted(args.extra.glob(f"{CAFFE[name]}_seed*.jpg"))]
              for name, c in cases.items()} if args.extra else {name: [] for name in cases}
    print("CALIBRATIONS = {")
    for name in cases:
        right = ours[name] + caffes[name]
        power.CALIBRATIONS[name] = statistics.Calibration(len(right), spreads(right))
        print(f'    "{name}": Calibration({len(right)}, {spreads(right)}),')
    print("}\nPOWER = {")
    cases.pop(check.ZOOM.name, None)      # no mistakes were made in zooms
    google = {name: Path(args.reference, c.file) for name, c in cases.items()}
    for mistake in [None, *check.NEGATIVES]:
        samples = {name: ours[name] if mistake is None else
                   [measured.of(c, p, mistake) for p in sorted(args.dreams.glob(f"{name}_{mistake}_seed*.png"))]
                   for name, c in cases.items()}
        samples = {name: s for name, s in samples.items() if len(s) > 1}
        if not samples:
            continue
        references = {}
        for name in samples:
            extra = sorted(args.extra.glob(f"{CAFFE[name]}_seed*.jpg")) if args.extra else []
            files = [google[name], *extra]
            references[name] = [measured.of(cases[name], p, mistake) for p in files]
            if mistake not in SEES_OTHERWISE:
                references[name] += ours[name]
        rng, shares = np.random.default_rng(0), []
        for n in power.SEEDS:
            fits = mistake is None or n <= min(map(len, samples.values()))
            shares.append(share_noticed(references, samples, n, rng) if fits else math.nan)
        print(f"    {mistake!r}: {tuple(round(float(s), 2) for s in shares)},    # in {', '.join(samples)}", flush=True)
    print("}")


if __name__ == "__main__":
    main()

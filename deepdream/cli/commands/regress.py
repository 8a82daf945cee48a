"""Check that this installation dreams what Google's notebook dreamt in 2015: make its pictures again, and compare.

    deepdream regress --html report.html                       with a report as a web page
    deepdream regress --reference originals/                   with Google's pictures from a folder
    deepdream regress --zoom --seeds 2                         frame 0029 of the endless zoom, too (60 dreams)
    deepdream regress --negatives                              would a wrong layer or a wrong net be noticed?
    deepdream regress --self-test                              without Google's pictures, on a small net

Google's jitter was not seeded, so pixels cannot be compared. Instead, each picture is dreamt with several seeds, and
statistics tell whether Google's picture could be one more of these dreams: z says by how many standard deviations it
differs from them, and rank how many of them differ more. The report also says which mistakes such a check would notice,
and which it cannot tell apart. The verdict is `fits`, `doubtful` or `no`. The exit code is 1
if a picture does not fit, or if a mistake that is made on purpose (a wrong layer, another net) is not noticed.

The picture of inception_3b/5x5_reduce is checked twice: with the diffs that an earlier dream left in the net, as Google
dreamt it, and on a fresh net, which dreams it a little differently and need not fit.
"""
import json
import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from ...errors import DreamError
from ...options import Settings
from ..options import add_device, whole_number

MODEL, SMALL = "bvlc_googlenet", "mini_imagenet"
SIZE, SETTINGS = (144, 256), Settings(octave_n=3)      # for the self-test: enough to tell nets apart


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("--model", metavar="MODEL", help="the net: a name from `deepdream models`, or a folder with a "
                        f"deploy.prototxt and a .caffemodel (default: {MODEL}; with --self-test, {SMALL})")
    parser.add_argument("--reference", metavar="FOLDER", help="a folder with sky1024px.jpg, flowers.jpg and "
                        "google_*.jpg (default: the pictures are downloaded once from Google's public repository)")
    parser.add_argument("--seeds", type=whole_number(2, 1000), default=4, metavar="N", help="number of dreams of each "
                        "picture; the check is less sensitive with fewer (default: 4)")
    parser.add_argument("--case", action="append", metavar="NAME", help="check only this picture: 4c, 3b_5x5_reduce, "
                        "3b_5x5_reduce_leftover, guided_3b or zoom. Give --case several times for several pictures")
    parser.add_argument("--zoom", action="store_true", help="check frame 0029 of the endless zoom, too, which takes 30 "
                        "dreams for each seed")
    parser.add_argument("--negatives", action="store_true", help="make mistakes on purpose, too, and report which are "
                        "noticed")
    parser.add_argument("--self-test", action="store_true", help="compare with a small dream of the same net instead "
                        "of Google's pictures; a wrong layer and another net must be noticed")
    parser.add_argument("--keep", metavar="FOLDER", help="save the dreams in this folder, and reuse those that it "
                        "holds already")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON")
    parser.add_argument("--html", metavar="FILE", help="write the report as a web page with the pictures")
    add_device(parser, fast=False)


def run(args: Namespace) -> int:
    """Run this command. Returns its exit code."""
    from ... import pictures
    from ...regress import check as regress
    from ...regress import originals, report
    for option in _reports(args):
        pictures.check_file(getattr(args, option), f"--{option}")
    if args.json and args.html and os.path.realpath(args.json) == os.path.realpath(args.html):
        raise DreamError(f"--html {args.html}: is the file of --json")
    known = [*regress.CASES, regress.ZOOM]
    names = [c.name for c in known]
    for name in args.case or []:
        if name not in names:
            raise DreamError(f"--case: '{name}' is not a picture; allowed are {', '.join(names)}")
    chosen = args.case or [c.name for c in regress.CASES] + ["zoom"] * args.zoom
    reference = None if args.self_test else originals.read(args.reference) if args.reference else originals.fetch()

    from ...net import Net
    net = Net(args.model or (SMALL if args.self_test else MODEL), device=args.device, threads=args.threads)
    inputs = [net.prototxt, net.caffemodel]
    if reference:
        inputs += [reference.folder / name for name in (*originals.FILES, *originals.OUTPUTS.values())]
    for option in _reports(args):
        pictures.refuse_inputs(getattr(args, option), *inputs, option=f"--{option}")
    cases = regress.usable(net, [c for c in known if c.name in chosen])
    if not cases:
        raise DreamError(f"{net.name} has none of the layers {', '.join(sorted({c.end for c in known}))}")
    seeds = list(range(args.seeds))
    if args.self_test:
        dreamer = regress.Run(net, SETTINGS)
        checked = _self_test(dreamer, cases, seeds, args.negatives)
        name = f"{net.name} itself, with another seed"
    else:
        dreamer, name = regress.Run(net), reference.name
        checked = _against(dreamer, reference, cases, seeds, args)
    if not checked:
        raise DreamError(f"{name}: holds none of the pictures of --case")
    summary = report.summary(dreamer, checked, name, seeds)
    if args.json:
        pictures.write(args.json, json.dumps(summary, indent=1).encode())
    if args.html:
        pictures.write(args.html, report.page(summary, checked).encode())
    print(report.table(summary))
    return 1 if summary["failed"] else 0


def _reports(args):
    """Return the report options that are used, without --."""
    return [option for option in ("json", "html") if getattr(args, option)]


def _self_test(dreamer, cases, seeds, all_negatives):
    from ...pictures.sky import formula_sky
    from ...regress import check as regress
    from ...regress import report
    h, w = SIZE
    sky, guide = formula_sky(h, w), formula_sky(h // 2, w // 2, seed=7)[:, ::-1].copy()
    negatives = [key for key, n in regress.NEGATIVES.items() if n.must or all_negatives]
    cases = [c for c in cases if not c.after and c.frames == 1]
    total = regress.work(dreamer, sky, cases, [*seeds, 0], negatives)
    with report.bar(total) as bar:
        return regress.self_test(dreamer, sky, guide, cases, seeds, negatives, bar)


def _against(dreamer, reference, cases, seeds, args):
    from ...regress import check as regress
    from ...regress import report
    references = {c.file: reference.dream(c.file) for c in cases}
    cases = [c for c in cases if references[c.file] is not None]
    negatives = list(regress.NEGATIVES) if args.negatives else []
    folder = Path(args.keep) if args.keep else None
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    with report.bar(regress.work(dreamer, reference.sky, cases, seeds, negatives)) as bar:
        dreams = regress.Dreams(reference.sky, reference.guide, folder, bar)
        return list(regress.regress(dreamer, references, cases, dreams, seeds, negatives))

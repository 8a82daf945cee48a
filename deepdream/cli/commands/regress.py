"""Does this installation dream what Google's did in 2015? The notebook's pictures again, and their statistics.

    deepdream regress --reference ../shared/original           Google's pictures from a folder
    deepdream regress --html report.html                       fetched from Google's public repository
    deepdream regress --zoom --seeds 2                         frame 0029 of the endless zoom as well (60 dreams)
    deepdream regress --negatives                              does it notice a wrong layer, a wrong net, ...?
    deepdream regress --self-test                              without Google's pictures, on the small net

The jitter of 2015 was not seeded, so no pixel can be compared. Each picture is dreamt with several seeds, and
Google's is asked whether it could be one more of them: z is how many standard deviations it is out, rank how many of
ours are further out. `fits`, `doubtful` or `no` is said of each picture; exit code 1 if one is refused, or a mistake
made on purpose (the wrong layer, another net) is not noticed.

The picture of inception_3b/5x5_reduce is shown twice: Google dreamt it on a net that still held diffs of the dream
before, and a fresh net dreams it a little differently.
"""
import json
import os
from pathlib import Path

from ...errors import DreamError
from ...options import Settings
from ..options import add_device, whole_number

MODEL, SMALL = "bvlc_googlenet", "mini_imagenet"
SIZE, SETTINGS = (144, 256), Settings(octave_n=3)      # of the self-test: large and long enough to tell nets apart


def arguments(parser):
    parser.add_argument("--model", metavar="NAME_OR_FOLDER", help=f"the net ({MODEL}; for the self-test {SMALL})")
    parser.add_argument("--reference", metavar="FOLDER", help="with sky1024px.jpg, flowers.jpg and google_*.jpg "
                        "(without: fetched once)")
    parser.add_argument("--seeds", type=whole_number(2, 1000), default=4, metavar="N", help="dreams of each "
                        "picture (4); with 2 the check is blunt")
    parser.add_argument("--case", action="append", metavar="NAME", help="only this picture: 4c, 3b_5x5_reduce, "
                        "3b_5x5_reduce_leftover, guided_3b, zoom; may be given several times")
    parser.add_argument("--zoom", action="store_true", help="frame 0029 of the endless zoom too: 30 dreams a seed")
    parser.add_argument("--negatives", action="store_true", help="run it wrongly on purpose, too, and report what is "
                        "noticed")
    parser.add_argument("--self-test", action="store_true", help="a dream of the net's own as the reference, small and "
                        "short; a wrong layer and another net must be noticed")
    parser.add_argument("--keep", metavar="FOLDER", help="keep the dreams there, and use those that are there already")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON")
    parser.add_argument("--html", metavar="FILE", help="write the report as a page with its pictures")
    add_device(parser, fast=False)


def run(args):
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
    wanted = args.case or [c.name for c in regress.CASES] + ["zoom"] * args.zoom
    reference = None if args.self_test else originals.read(args.reference) if args.reference else originals.fetch()

    from ...net import Net
    net = Net(args.model or (SMALL if args.self_test else MODEL), device=args.device, threads=args.threads)
    read = [net.prototxt, net.caffemodel]
    if reference:
        read += [reference.folder / name for name in (*originals.FILES, *originals.OUTPUTS.values())]
    for option in _reports(args):
        pictures.refuse_inputs(getattr(args, option), *read, option=f"--{option}")
    cases = regress.usable(net, [c for c in known if c.name in wanted])
    if not cases:
        raise DreamError(f"{net.name} has none of the layers {', '.join(sorted({c.end for c in known}))}")
    seeds = list(range(args.seeds))
    if args.self_test:
        dreamt = regress.Run(net, SETTINGS)
        checked = _self_test(dreamt, cases, seeds, args.negatives)
        name = f"{net.name} itself, with another seed"
    else:
        dreamt, name = regress.Run(net), reference.name
        checked = _against(dreamt, reference, cases, seeds, args)
    if not checked:
        raise DreamError(f"{name}: holds none of the pictures asked for")
    told = report.told(dreamt, checked, name, seeds)
    if args.json:
        pictures.write(args.json, json.dumps(told, indent=1).encode())
    if args.html:
        pictures.write(args.html, report.page(told, checked).encode())
    print(report.table(told))
    return 1 if told["failed"] else 0


def _reports(args):
    return [option for option in ("json", "html") if getattr(args, option)]


def _self_test(dreamt, cases, seeds, everything):
    from ...pictures.sky import formula_sky
    from ...regress import check as regress
    from ...regress import report
    h, w = SIZE
    sky, guide = formula_sky(h, w), formula_sky(h // 2, w // 2, seed=7)[:, ::-1].copy()
    negatives = [key for key, n in regress.NEGATIVES.items() if n.must or everything]
    cases = [c for c in cases if not c.after and c.frames == 1]
    total = regress.work(dreamt, sky, cases, [*seeds, 0], negatives)
    with report.bar(total) as bar:
        return regress.self_test(dreamt, sky, guide, cases, seeds, negatives, bar)


def _against(dreamt, reference, cases, seeds, args):
    from ...regress import check as regress
    from ...regress import report
    references = {c.file: reference.dream(c.file) for c in cases}
    cases = [c for c in cases if references[c.file] is not None]
    negatives = list(regress.NEGATIVES) if args.negatives else []
    folder = Path(args.keep) if args.keep else None
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    with report.bar(regress.work(dreamt, reference.sky, cases, seeds, negatives)) as bar:
        dreams = regress.Dreams(reference.sky, reference.guide, folder, bar)
        return list(regress.regress(dreamt, references, cases, dreams, seeds, negatives))

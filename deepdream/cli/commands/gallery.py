"""Dream a picture with several nets at several layers, as a page to look at: OUT/index.html, which opens from disk.

    deepdream gallery cat.jpg -o out/                                  ImageNet beside Places, low to high
    deepdream gallery cat.jpg -o out/ --models bvlc_googlenet places205_googlenet --ends all --octave-n 2 6
    deepdream gallery cat.jpg -o out/ --ends 'inception_4*/output' --guides flowers.jpg --seeds 0 1 2 --jobs 4

The same command again makes only what is missing or was made with other settings. Ctrl-C keeps what is finished.

--dask hands the dreams to a running Dask cluster (pip install distributed). To start one, in this project's folder:
`PYTHONPATH=. dask scheduler` on one machine, `PYTHONPATH=. dask worker tcp://HOST:8786 --nworkers N` on the others.
A scheduler runs whatever code it is sent: use it in a network of your own.
"""
import sys
from pathlib import Path

from ...errors import DreamError
from ..nets import SHIPPED, nets_of
from ..options import add_device, add_quality, add_steps, settings_of, whole_number


def arguments(parser):
    parser.add_argument("picture", metavar="PICTURE", help="JPEG, PNG, WebP or TIFF")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="the gallery's folder")
    parser.add_argument("--models", nargs="+", default=SHIPPED, metavar="MODEL",
                        help=f"names from `deepdream models`, folders, .onnx files ({' '.join(SHIPPED)})")
    parser.add_argument("--ends", nargs="+", default=[], metavar="LAYER", help="names of layers, patterns such as "
                        "'inception_4*', low, middle, high or all (two of each of low, middle, high)")
    parser.add_argument("--guides", nargs="+", default=[], metavar="PICTURE", help="dream towards what the nets see "
                        "in each of these")
    add_steps(parser, several=True)
    add_device(parser, fast=False)
    parser.add_argument("--jobs", type=whole_number(1), default=1, metavar="N", help="dreams made at a time, each in a "
                        "process of its own, --threads divided among them (1)")
    parser.add_argument("--dask", metavar="ADDRESS", help="of a running Dask scheduler, as tcp://host:8786")
    add_quality(parser)


def run(args):
    from ...batch import gallery, jobs, rows
    source = gallery.Source.read(args.picture)
    guides = list({g.sha256: g for g in map(gallery.Source.read, args.guides)}.values())
    device = _device(args)
    nets = nets_of(args.models)
    chosen = rows.chosen_ends(args.ends, nets)
    settings, octave_ns, seeds = _settings(args)
    dreams = gallery.plan(source, nets, chosen, octave_ns, guides, seeds, settings, args.quality)
    asked = {"models": list(nets), "ends": args.ends, **settings.steps, "octave_n": octave_ns, "seeds": seeds,
             "guides": [g.path.name for g in guides], "quality": args.quality}
    made = gallery.Gallery(args.output, source, nets, dreams, rows.rows(chosen, nets), asked)
    todo = made.resume()
    n = 1 if args.dask or device.startswith("cuda") else min(args.jobs, max(1, len(todo)))
    if args.jobs > n and device.startswith("cuda"):
        print(f"--jobs {args.jobs}: on {device} dreams are made one after the other", file=sys.stderr)
    threads = jobs.threads_each(args.threads, n)
    work = [(d, made.job(d, device, threads)) for d in todo]
    with Bar(todo, len(dreams), made.source.size) as bar, jobs.workers(n, args.dask, bar.step) as workers:
        made.run(work, workers, bar.finished)
    failed = sum(d.status == "failed" for d in dreams)
    print(f"{Path(args.output) / 'index.html'}: {len(todo) - failed} dreams made, {len(dreams) - len(todo)} kept"
          + (f", {failed} failed (the page says why)" if failed else ""))
    if failed == len(dreams):
        raise DreamError(f"no dream could be made: {dreams[0].facts['reason']}")
    return 0


def _settings(args):
    """What all dreams have in common, the numbers of octaves, and the seeds."""
    octave_ns, seeds = list(dict.fromkeys(args.octave_n or [4])), list(dict.fromkeys(args.seeds))
    args.octave_n = None
    return settings_of(args), octave_ns, seeds


def _device(args):
    """The device as jobs are told it: found out here for this machine, left to each worker of a cluster."""
    if args.dask:
        if args.jobs > 1:
            raise DreamError("--jobs and --dask: one or the other; a cluster has as many dreams at a time as workers")
        return args.device
    from ...runtime.device import Device
    device = Device(args.device)
    device.announce()
    return device.name


class Bar:
    """A bar over all dreams, each weighed by its pixels, so that the time left is true."""

    def __init__(self, todo, total, size):
        from tqdm import tqdm

        from ...dream import octave_sizes
        self.sizes = {id(d): octave_sizes(*size, d.settings.octave_n, d.settings.octave_scale) for d in todo}
        self.weight = {id(d): sum(h * w for h, w in self.sizes[id(d)]) * d.settings.iter_n for d in todo}
        self.todo, self.total, self.done, self.at, self.failed = todo, total, total - len(todo), 0, 0
        self.bar = tqdm(total=sum(self.weight.values()), file=sys.stderr, leave=False, disable=not sys.stderr.isatty(),
                        dynamic_ncols=True, bar_format="{desc}|{bar}| {percentage:3.0f}%  {elapsed}, {remaining} left")
        self._tell()

    def step(self, octave, i, vis, told):
        """The on_step of a dream that is made in this process: the first of those that are not finished."""
        dream = self.todo[self.done - (self.total - len(self.todo))]
        h, w = self.sizes[id(dream)][octave]
        self.bar.update(h * w)

    def finished(self, dream):
        self.done += 1
        self.failed += dream.status == "failed"
        self.at += self.weight[id(dream)]
        self.bar.update(self.at - self.bar.n)      # the steps of a dream that failed count too
        self._tell()

    def _tell(self):
        failed = f", {self.failed} failed" if self.failed else ""
        self.bar.set_description_str(f"{self.done}/{self.total} dreams{failed} ")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.close()

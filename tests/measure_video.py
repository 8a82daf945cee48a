"""Measure how steady dreams of films are, on clips whose motion is known. No test runs this.

    python tests/measure_video.py                                       clips of formula scenes, with mini_imagenet
    python tests/measure_video.py --pictures a.jpg b.jpg --frames 200   clips of photographs
    python tests/measure_video.py --model bvlc_googlenet --end inception_4c/output --size 320x180

Clips: `pan` moves over a picture, `object` moves one picture in front of another, `cut` has a cut in the middle, and
`still` does not move. Columns, each of the steady dream and of each frame dreamt by itself:

change    the part of the detail (dream minus frame) that is not that of the frame before, moved along: rms / rms
size      rms of the detail in the second half, relative to the first frame; growth: its slope over the second half
warp      mean |frame - moved frame before| of the dream, relative to that of the film: less than 1 would be blurred
seconds   of processor time for a frame, all threads together
"""
import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from deepdream import Net, deepdream, load, save  # noqa: E402
from deepdream.film import cuts  # noqa: E402
from deepdream.film.flow import Motion, dis, grey, moved  # noqa: E402
from deepdream.film.steady import Steady  # noqa: E402
from deepdream.pictures.starts import cached_scene, resized  # noqa: E402

SPEED = 2.3, 0.7      # pixels a frame of the camera, to the right and downwards
RADIUS = 0.22         # of the object, as a part of the height
PATTERN = 32          # pixels: the period of the jitter, and of a pattern that a reused jitter would leave


# ---- clips: lists of (frame, true motion since the frame before, or None)

def pan(picture, n, h, w, speed=SPEED):
    """Move over a picture, back and forth so that it need not be long."""
    room = np.array([picture.shape[1] - w - 4, picture.shape[0] - h - 4])
    steps = np.array([np.abs((t * np.array(speed) + room) % (2 * room) - room) for t in range(n)])
    clip = []
    for t, (x, y) in enumerate(room - steps):
        frame = sampled(picture, h, w, x + 2, y + 2)
        dx, dy = steps[t - 1] - steps[t] if t else (0, 0)
        back = np.broadcast_to(np.float32([dx, dy]), (h, w, 2))
        clip.append((frame, Motion(back, inside(back)) if t else None))
    return clip


def still(picture, n, h, w):
    """Show a picture, with the noise of a camera."""
    rng = np.random.default_rng(1)
    frame, no = resized(picture, h, w), np.zeros((h, w, 2), np.float32)
    return [(np.clip(frame + rng.normal(0, 1.5, frame.shape), 0, 255).round().astype(np.float32),
             Motion(no, np.ones((h, w), bool)) if t else None) for t in range(n)]


def moving_object(picture, n, h, w, other):
    """Move a disc, cut out of another picture, in front of a picture that moves more slowly."""
    clip, y, x = [], *np.mgrid[:h, :w].astype(np.float32)
    radius = RADIUS * h
    for t, (frame, motion) in enumerate(pan(picture, n, h, w, (0.6, 0.2))):
        at = [(1 - (1 - 2 * radius / w) * np.cos(s / 40 * np.pi)) / 2 * w for s in (t, t - 1)]
        cy = [h / 2 + h / 5 * np.sin(s / 25 * np.pi) for s in (t, t - 1)]
        disc = np.clip(radius - np.hypot(x - at[0], y - cy[0]) + 0.5, 0, 1)[..., None]
        inner = sampled(other, h, w, other.shape[1] / 2 - at[0], other.shape[0] / 2 - cy[0])
        frame = np.float32(np.clip(frame * (1 - disc) + inner * disc, 0, 255).round())
        if motion:
            step = np.float32([at[1] - at[0], cy[1] - cy[0]])
            back = np.where(disc > 0.5, step, motion.back).astype(np.float32)
            before = np.hypot(x + motion.back[..., 0] - at[1], y + motion.back[..., 1] - cy[1]) <= radius + 2
            near = np.abs(radius - np.hypot(x - at[0], y - cy[0])) < 3
            motion = Motion(back, inside(back) & ~(before & (disc[..., 0] <= 0.5)) & ~near)
        clip.append((frame, motion))
    return clip


def cut(picture, n, h, w, other):
    """Move over one picture and then over another."""
    return pan(picture, n // 2, h, w) + pan(other, n - n // 2, h, w)


def sampled(picture, h, w, x, y):
    """Return the part of a picture at a position in fractions of pixels, by cubic interpolation."""
    corner = np.broadcast_to(np.float32([x, y]), (h, w, 2))
    canvas = picture
    if canvas.shape[0] < h or canvas.shape[1] < w:
        raise SystemExit("the pictures are too small for this size")
    i, j = int(np.floor(y)), int(np.floor(x))
    rows, columns = np.arange(i - 4, i + h + 4), np.arange(j - 4, j + w + 4)
    part = canvas[np.clip(rows, 0, canvas.shape[0] - 1)][:, np.clip(columns, 0, canvas.shape[1] - 1)]
    shift = np.broadcast_to(np.float32(corner[0, 0] - [j, i]), (*part.shape[:2], 2))
    part = moved(np.ascontiguousarray(part), Motion(shift, None))[4:-4, 4:-4]
    return np.clip(part, 0, 255).round()


def inside(back):
    h, w = back.shape[:2]
    y, x = np.mgrid[:h, :w]
    x, y = x + back[..., 0], y + back[..., 1]
    return (x >= 1) & (x <= w - 2) & (y >= 1) & (y <= h - 2)


# ---- dreaming a clip

def steady_dreams(net, clip, options):
    """Return the steady dreams of a clip, the seconds of each frame, and the number of cuts that were found."""
    steady = Steady(net, options["iter_n"], options["steps"], options["keep"], options["seed"])
    dreams, seconds, last, found = [], [], None, 0
    for frame, _ in clip:
        start = time.process_time()
        now = cuts.thumbnail(frame), grey(frame)
        new = last is None or cuts.is_cut(last[0], now[0])
        found += new
        motion = None if new else dis(last[1], now[1])
        last = now
        dreams.append(steady.dream(frame, motion, **options["dream"]))
        seconds.append(time.process_time() - start)
    return dreams, seconds, found - 1


def single_dreams(net, clip, options):
    """Return the dreams of a clip, each frame by itself, with the same seed, and the seconds of each frame."""
    dreams, seconds = [], []
    for frame, _ in clip:
        start = time.process_time()
        dreams.append(deepdream(net, frame, iter_n=options["iter_n"], seed=options["seed"], on_step=lambda *_: None,
                                **options["dream"]))
        seconds.append(time.process_time() - start)
    return dreams, seconds


def rms(x):
    return float(np.sqrt(np.mean(np.square(x))))


def figures(clip, dreams, seconds):
    """Return the figures of one way of dreaming a clip."""
    details = [dream - frame for dream, (frame, _) in zip(dreams, clip)]
    change, warp, base = [], [], []
    for t in range(1, len(clip)):
        if clip[t][1] is None:
            continue
        motion, seen = clip[t][1], clip[t][1].believed
        change.append(rms((details[t] - moved(details[t - 1], motion))[seen]) / rms(details[t][seen]))
        warp.append(np.abs(dreams[t] - moved(np.float32(dreams[t - 1]), motion))[seen].mean())
        base.append(np.abs(clip[t][0] - moved(clip[t - 1][0], motion))[seen].mean())
    sizes = np.array([rms(d) for d in details])
    half = sizes[len(sizes) // 2:]
    slope = np.polyfit(np.linspace(0, 1, len(half)), half, 1)[0] / half.mean() if len(half) > 2 else 0
    return {"change": np.median(change), "size": half.mean() / sizes[0], "growth": slope,
            "warp": np.mean(warp) / max(np.mean(base), 1e-6), "seconds": np.median(seconds), "rms": sizes[0],
            "smallest": sizes.min() / sizes[0], "largest": sizes.max() / sizes[0]}


def baldness(clip, dreams, single, ages=(1, 2, 4, 8)):
    """Return the rms of the detail where something came into view, by the number of frames since.

    It is relative to that of the same place if the frame is dreamt by itself. For clips of `pan`.
    """
    h, w = clip[0][0].shape[:2]
    age, sums = np.full((h, w), 99, np.float32), {a: [] for a in ages}
    for dream, other, (frame, motion) in zip(dreams, single, clip):
        if motion is None:
            continue
        y, x = np.mgrid[:h, :w]
        sx, sy = np.rint(x + motion.back[..., 0]).astype(int), np.rint(y + motion.back[..., 1]).astype(int)
        good = (sx >= 0) & (sx < w) & (sy >= 0) & (sy < h)
        age = np.where(good, age[sy.clip(0, h - 1), sx.clip(0, w - 1)] + 1, 1)
        for a in ages:
            if (age == a).any():
                sums[a].append(rms((dream - frame)[age == a]) / rms((other - frame)[age == a]))
    return {a: round(float(np.mean(v)), 3) for a, v in sums.items() if v}


def fixed_pattern(dreams, clip):
    """Return how much of the detail's variance repeats with a period of PATTERN pixels, relative to chance (1)."""
    detail = np.mean([d - f for d, (f, _) in zip(dreams, clip)], axis=0)
    h, w = (n // PATTERN * PATTERN for n in detail.shape[:2])
    tiles = detail[:h, :w].reshape(h // PATTERN, PATTERN, w // PATTERN, PATTERN, 3)
    count = (h // PATTERN) * (w // PATTERN)
    return float(tiles.mean((0, 2)).var() / (tiles.var() / count))


def sheet(path, clip, dreams, single, columns=5):
    """Write a contact sheet: rows of the clip, of its steady dreams, and of the first frames dreamt by themselves."""
    path.parent.mkdir(parents=True, exist_ok=True)
    chosen = np.linspace(0, len(dreams) - 1, columns).astype(int)
    rows = [np.hstack([pictures[min(i, len(pictures) - 1)] for i in which]) for pictures, which in (
        ([f for f, _ in clip], chosen), (dreams, chosen), (dreams, range(columns)), (single, range(columns)))]
    save(np.vstack(rows), path)


def clips_of(pictures, n, h, w):
    """Return {name: clip}."""
    big = [resized(p, int(p.shape[0] * s), int(p.shape[1] * s)) for p in pictures
           for s in [max(1.7 * h / p.shape[0], 1.7 * w / p.shape[1])]]
    a, b = big[0], big[1]
    return {"pan": lambda: pan(a, n, h, w), "object": lambda: moving_object(a, n, h, w, b),
            "cut": lambda: cut(a, n, h, w, b), "still": lambda: still(a, n, h, w)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", nargs=2, help="two photographs (default: the scenes lake and fur)")
    parser.add_argument("--model", default="mini_imagenet")
    parser.add_argument("--end", default="inception_4c/output")
    parser.add_argument("--size", default="320x180")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--iter-n", type=int, default=10)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--keep", type=float)
    parser.add_argument("--single", type=int, default=12, help="frames to dream each by itself")
    parser.add_argument("--clips", nargs="+", default=["pan", "object", "cut", "still"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--sheets", metavar="FOLDER", help="also write contact sheets of the clips and their dreams")
    parser.add_argument("--json", help="also write all figures to this file")
    args = parser.parse_args()
    w, h = map(int, args.size.split("x"))
    pictures = [load(p) for p in args.pictures] if args.pictures else \
        [cached_scene(name, 720, 1280) for name in ("lake", "fur")]
    net = Net(args.model, device=args.device, threads=args.threads)
    options = {"iter_n": args.iter_n, "steps": args.steps, "keep": args.keep, "seed": 7, "dream": {"end": args.end}}
    results = {}
    for name in args.clips:
        clip = clips_of(pictures, args.frames, h, w)[name]()
        dreams, seconds, found = steady_dreams(net, clip, options)
        single = single_dreams(net, clip[:args.single], options)
        results[name] = {"steady": figures(clip, dreams, seconds), "single": figures(clip[:args.single], *single),
                         "cuts": found}
        if args.sheets:
            sheet(Path(args.sheets) / f"{name}.png", clip, dreams, single[0])
        if name == "pan":
            results[name]["new"] = baldness(clip, dreams, single[0])
        if name == "still":
            results[name]["pattern"] = fixed_pattern(dreams, clip), fixed_pattern(single[0], clip)
        print(name, json.dumps(results[name], default=lambda v: round(float(v), 3)), flush=True)
        for way in ("steady", "single"):
            print(f"  {way:7s}" + "".join(f"  {k} {v:7.3f}" for k, v in results[name][way].items()), flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1, default=float))


if __name__ == "__main__":
    main()

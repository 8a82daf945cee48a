"""Make the two small nets, mini_imagenet and mini_places, from the behaviour of BVLC GoogLeNet (the teacher).

    python models/make_mini.py --teacher FOLDER --images FOLDER [--out FOLDER]

The teacher's folder holds bvlc_googlenet.caffemodel and synset_words.txt. The folder of images holds
objects/CLASS/*.jpg and places/CLASS/*.jpg. The last tenth of every class is held out and only used for measuring.

1. Calibration pictures are crops of 112 pixels. A third of them is half-dreamt by the teacher, because dreams pass
   through such pictures.
2. The net is made layer by layer, from the data up. Each layer of the student gets the input that the student itself
   computes. Of the teacher's channels, those that the following layers need most are kept, and their weights are found
   by least squares from the student's input patches.
3. The classifier on pool5 is found by ridge regression to the teacher's logits (mini_imagenet) or by logistic
   regression to the labels of the scenes (mini_places).
For mini_places, the teacher's channels are scaled first, so that channels which respond to buildings become strong and
channels which respond to animals become weak. This does not change the teacher's logits, but it changes its dreams.

Blobs are float32 (N, C, H, W), BGR minus MEAN, and channels-last in memory. The script uses one thread, so that it
writes the same files every time, up to rounding.
"""
from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from deepdream.convert.caffe.reader import read_caffemodel  # noqa: E402
from deepdream.models.caffe_files import write_net  # noqa: E402

torch.set_num_threads(1)

SEED = 0
SIZE = 112                                                   # side of a calibration picture, in pixels
CROPS = 2400                                                 # number of calibration pictures for each net
POSITIONS = 30000                                            # number of rows in a layer's least squares
ROUNDS = 8                                                   # number of least squares for each layer
RIDGE = 2e-5                                                 # ridge, relative to the mean squared input
NOISE = 3.0                                                  # grey levels: the change over which slopes are measured
MEAN = torch.tensor([104.0, 116.0, 122.0]).view(3, 1, 1)     # B,G,R
PLACES_GAIN = 3.0                                            # a channel is scaled by its scene share to this power
PLACES_FLOOR = 0.03                                          # the minimum scene share

BLOCKS = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
# channels: 7x7 | 3x3_reduce, 3x3 | 1x1, 3x3_reduce, 3x3, 5x5_reduce, 5x5, pool_proj
GOOGLENET = {
    "conv1": (64,), "conv2": (64, 192),
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64), "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128)}
# nearly all channels in the low layers, whose errors spread to all others; a quarter in the high ones, where few dream
MINI = {
    "conv1": (63,), "conv2": (63, 188),
    "3a": (60, 88, 118, 15, 30, 30), "3b": (114, 108, 162, 29, 82, 56),
    "4a": (138, 80, 160, 14, 40, 54), "4b": (112, 86, 162, 19, 47, 48), "4c": (94, 94, 180, 19, 47, 48),
    "4d": (82, 99, 184, 24, 44, 48), "4e": (138, 102, 188, 22, 70, 76),
    "5a": (108, 66, 108, 14, 42, 50), "5b": (96, 56, 80, 12, 28, 36)}
# scenes with buildings, as examples of what mini_places should dream of
BUILT = """abbey amphitheater aqueduct bridge cemetery chalet church_outdoor courtyard dam fountain lighthouse
monastery_outdoor palace skyscraper staircase temple_east_asia lobby corridor highway""".split()


# ---- the net: a list of layers (dicts), and its weights as {name: [weight, bias]}

def conv(name: str, bottom: str, n: int, k: int = 1, stride: int = 1, pad: int = 0) -> dict:
    """Return a convolution with n channels and a kernel of k x k, followed by a ReLU."""
    return dict(name=name, type="Convolution", bottom=[bottom], n=n, k=k, stride=stride, pad=pad)


def pool(name: str, bottom: str, kind: str, k: int, stride: int, pad: int = 0) -> dict:
    """Return a pooling of windows of k x k. kind: MAX or AVE."""
    return dict(name=name, type="Pooling", bottom=[bottom], kind=kind, k=k, stride=stride, pad=pad)


def googlenet(width: dict[str, tuple], classes: int) -> list[dict]:
    """Return GoogLeNet's layers in net order.

    width: {block: numbers of channels}, like GOOGLENET.
    classes: the number of classes.
    """
    layers = [
        conv("conv1/7x7_s2", "data", width["conv1"][0], 7, 2, 3),
        pool("pool1/3x3_s2", "conv1/7x7_s2", "MAX", 3, 2),
        dict(name="pool1/norm1", type="LRN", bottom=["pool1/3x3_s2"]),
        conv("conv2/3x3_reduce", "pool1/norm1", width["conv2"][0]),
        conv("conv2/3x3", "conv2/3x3_reduce", width["conv2"][1], 3, 1, 1),
        dict(name="conv2/norm2", type="LRN", bottom=["conv2/3x3"]),
        pool("pool2/3x3_s2", "conv2/norm2", "MAX", 3, 2)]
    for block in BLOCKS:
        x, i, w = layers[-1]["name"], f"inception_{block}/", width[block]
        layers += [
            conv(i + "1x1", x, w[0]),
            conv(i + "3x3_reduce", x, w[1]), conv(i + "3x3", i + "3x3_reduce", w[2], 3, 1, 1),
            conv(i + "5x5_reduce", x, w[3]), conv(i + "5x5", i + "5x5_reduce", w[4], 5, 1, 2),
            pool(i + "pool", x, "MAX", 3, 1, 1), conv(i + "pool_proj", i + "pool", w[5]),
            dict(name=i + "output", type="Concat", bottom=[i + "1x1", i + "3x3", i + "5x5", i + "pool_proj"])]
        if block in ("3b", "4e"):
            layers.append(pool(f"pool{block[0]}/3x3_s2", i + "output", "MAX", 3, 2))
    return layers + [pool("pool5/7x7_s1", i + "output", "AVE", 7, 1),
                     dict(name="loss3/classifier", type="InnerProduct", bottom=["pool5/7x7_s1"], n=classes)]


def output(block: str) -> str:
    """Return the name of a block's output blob."""
    return f"inception_{block}/output"


def lrn(x: torch.Tensor) -> torch.Tensor:
    """Return x * (1 + alpha/n * sum of the squares of the 5 neighbouring channels)^-beta (Caffe: lrn_layer.cpp)."""
    c = x.shape[1]
    square = F.pad((x * x).permute(0, 2, 3, 1), (2, 2))
    near = sum(square[..., i:i + c] for i in range(5)).permute(0, 3, 1, 2)
    return x * (1 + 1e-4 / 5 * near).pow(-0.75)


def run_layer(layer: dict, bottoms: list[torch.Tensor], weights: dict) -> torch.Tensor:
    """Compute a layer's blob from its bottoms."""
    x = bottoms[0]
    if layer["type"] == "Convolution":
        return F.relu(F.conv2d(x, *weights[layer["name"]], layer["stride"], layer["pad"]))
    if layer["type"] == "Pooling" and layer["kind"] == "MAX":
        return F.max_pool2d(x, layer["k"], layer["stride"], layer["pad"], ceil_mode=True)
    if layer["type"] == "Pooling":
        return x.mean((2, 3), keepdim=True)                  # over the whole map, which is 7x7 at 224 pixels
    if layer["type"] == "LRN":
        return lrn(x)
    if layer["type"] == "Concat":
        return torch.cat(bottoms, 1)
    return F.linear(x.flatten(1), *weights[layer["name"]])


def forward(layers: list[dict], weights: dict, x: torch.Tensor, ends: Sequence[str]) -> dict[str, torch.Tensor]:
    """Compute {end: its blob} for data x."""
    blobs, left = {"data": x}, set(ends)
    for layer in layers:
        blobs[layer["name"]] = run_layer(layer, [blobs[b] for b in layer["bottom"]], weights)
        left.discard(layer["name"])
        if not left:
            return {end: blobs[end] for end in ends}


def gradients(layers: list[dict], weights: dict, x: torch.Tensor, ends: Sequence[str],
              batch: int = 16) -> dict[str, torch.Tensor]:
    """Compute the gradients of dreams: for each end, that of half the sum of squares of its blob.

    layers, weights: the net.
    x: data, (N, 3, H, W).
    ends: names of layers.
    batch: number of pictures to compute at a time.

    Returns {end: (N, 3, H, W)}, Caffe's data.diff after end.diff = end.data.
    """
    parts = {end: [] for end in ends}
    for start in range(0, len(x), batch):
        data = x[start:start + batch].clone(memory_format=torch.channels_last).requires_grad_()
        blobs = forward(layers, weights, data, ends)
        for end in ends:
            parts[end].append(torch.autograd.grad(blobs[end], data, blobs[end].detach(), retain_graph=True)[0])
    return {end: torch.cat(part) for end, part in parts.items()}


def readers(layers: list[dict], name: str) -> list[str]:
    """Return the names of the layers with weights that read a blob, directly or after a pooling."""
    found = []
    for layer in layers:
        if name in layer["bottom"]:
            found += readers(layers, layer["name"]) if layer["type"] == "Pooling" else [layer["name"]]
    return found


# ---- pictures

def picture_files(folder: Path) -> dict[str, tuple[list, list]]:
    """Return {class: (files to make the net from, held-out files)}. The last tenth by name is held out."""
    found = {}
    for sub in sorted(p for p in Path(folder).iterdir() if p.is_dir()):
        files = sorted(sub.glob("*.jpg"))
        cut = len(files) - len(files) // 10
        found[sub.name] = files[:cut], files[cut:]
    return found


def draw(classes: dict, n: int, part: int, rng: np.random.Generator) -> list[Path]:
    """Draw files at random, from one class after the other.

    classes: from `picture_files`.
    n: number of files.
    part: 0: files to make the net from; 1: held-out files.
    """
    lists = [classes[name][part] for name in sorted(classes)]
    return [lists[i % len(lists)][rng.integers(len(lists[i % len(lists)]))] for i in range(n)]


def to_data(image: Image.Image) -> torch.Tensor:
    """Convert an RGB picture to data, (3, H, W)."""
    return torch.from_numpy(np.asarray(image, np.float32)[..., ::-1].copy()).permute(2, 0, 1) - MEAN


def square(path: Path, rng: np.random.Generator | None = None) -> torch.Tensor:
    """Read a square part of a picture as data, (3, SIZE, SIZE).

    path: the picture.
    rng: for a random crop, mirrored at random and with other brightness, contrast and colours; None: the middle.
    """
    image = Image.open(path).convert("RGB")
    w, h = image.size
    side = min(w, h) * (rng.uniform(0.6, 1) if rng else 1)
    x, y = (rng.uniform(0, w - side), rng.uniform(0, h - side)) if rng else ((w - side) / 2, (h - side) / 2)
    image = image.resize((SIZE, SIZE), Image.BILINEAR, box=(x, y, x + side, y + side))
    if rng:
        if rng.random() < 0.5:
            image = image.transpose(Image.FLIP_LEFT_RIGHT)
        for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = change(image).enhance(rng.uniform(0.7, 1.3))
    return to_data(image)


def stack(files: Sequence[Path], rng: np.random.Generator | None = None) -> torch.Tensor:
    """Read several pictures as data, (N, 3, SIZE, SIZE). rng: as in `square`."""
    return torch.stack([square(f, rng) for f in files]).contiguous(memory_format=torch.channels_last)


def half_dreamt(layers: list[dict], weights: dict, x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Return data x after 2 to 5 of the notebook's steps (step_size 1.5, clipped).

    Eight pictures each are dreamt at 3b, the next eight at 4b, and so on with 4c, 4d, 4e and again 3b.
    """
    done = []
    for i, part in enumerate(x.split(8)):
        end = output(("3b", "4b", "4c", "4d", "4e")[i % 5])
        for _ in range(rng.integers(2, 6)):
            g = gradients(layers, weights, part, [end])[end]
            part = part + 1.5 / g.abs().mean((1, 2, 3), keepdim=True) * g
            part = torch.minimum(torch.maximum(part, -MEAN), 255 - MEAN)
        done.append(part)
    return torch.cat(done).contiguous(memory_format=torch.channels_last)


def calibration(layers: list[dict], weights: dict, files: Sequence[Path], rng: np.random.Generator) -> torch.Tensor:
    """Return the calibration pictures: random crops of the files in random order, the first third half-dreamt."""
    x = stack([files[i] for i in rng.permutation(len(files))], rng)
    third = len(x) // 3
    x[:third] = half_dreamt(layers, weights, x[:third], rng)
    return x


# ---- which channels to keep, and their weights

def choose(moments: torch.Tensor, n: int) -> tuple[list[int], float]:
    """Choose the channels that span all channels best.

    moments: a positive matrix, (C, C).
    n: number of channels to choose.

    The choice is greedy, by pivoted Cholesky decomposition: each round takes the column that removes most of the trace,
    |R_j|^2 / R_jj. Returns the channels in ascending order, and the share of the trace that is left.
    """
    rest, keep = moments.clone(), []
    tiny = 1e-9 * float(moments.diagonal().max())
    for _ in range(n):
        d = rest.diagonal()
        gain = torch.where(d > tiny, (rest * rest).sum(0) / d.clamp(min=tiny), torch.zeros_like(d))
        gain[keep] = -1
        j = int(gain.argmax())
        keep.append(j)
        v = rest[:, j] / rest[j, j].clamp(min=tiny).sqrt()
        rest = rest - torch.outer(v, v)
    return sorted(keep), float(rest.trace() / moments.trace())


def gram(rows: torch.Tensor) -> torch.Tensor:
    """Return rows^T rows, summed in double precision."""
    return sum((part.t() @ part).double() for part in rows.split(8192))


def solve(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float, float]:
    """Find weights W and bias b such that relu(x W + b) is close to relu(y).

    x: the student's input patches, (P, d).
    y: the teacher's values before the ReLU at the same positions, (P, n).

    Ridge least squares are solved ROUNDS times. Where the teacher is negative, any negative value is right, so only
    positive ones are pulled to 0. The matrix is the same in all rounds and is factored once.
    Returns W (n, d), b (n), and the relative squared error after the ReLU of the first round and of the last one.
    """
    size = x.pow(2).mean(0).sqrt().clamp(min=1e-12)          # so that the ridge treats weak and strong columns alike
    x = torch.cat([x / size, torch.ones(len(x), 1)], 1)
    g = gram(x)
    ridge = RIDGE * g.trace() / len(g) * torch.eye(len(g), dtype=g.dtype)
    ridge[-1, -1] = 0
    factor = torch.linalg.cholesky(g + ridge)
    target, positive, residual = y, F.relu(y), []
    for _ in range(ROUNDS):
        w = torch.cholesky_solve((x.t() @ target).double(), factor).float()
        answer = x @ w
        residual.append(float(((F.relu(answer) - positive) ** 2).sum() / (positive ** 2).sum()))
        target = torch.where(y > 0, y, answer.clamp(max=0))
    return (w[:-1] / size[:, None]).t(), w[-1], residual[0], residual[-1]


def patches(blob: torch.Tensor, where: Sequence[torch.Tensor], layer: dict) -> torch.Tensor:
    """Cut out input patches of a convolution.

    blob: its bottom, (N, C, H, W).
    where: indices n, y and x of the positions, (P,) each.
    layer: the convolution.

    Returns rows (P, k*k*C), in the order k, k, C.
    """
    n, y, x = where
    p, s, k = layer["pad"], layer["stride"], layer["k"]
    blob = F.pad(blob.permute(0, 2, 3, 1), (0, 0, p, p, p, p))
    return torch.cat([blob[n, y * s + i, x * s + j] for i in range(k) for j in range(k)], 1)


def importance(layers: list[dict], weights: dict, name: str) -> torch.Tensor:
    """Return for each channel of a blob the squared norm of all weights that multiply it."""
    total = 0
    for layer in layers:
        if name not in layer["bottom"]:
            continue
        if layer["name"] in weights:
            w = weights[layer["name"]][0].double()
            total = total + (w * w).sum([axis for axis in range(w.dim()) if axis != 1])
        else:
            through = importance(layers, weights, layer["name"])
            if layer["type"] == "Concat":                    # only the channels of this branch
                sizes = [len(weights[b][1]) for b in layer["bottom"]]
                through = through.split(sizes)[layer["bottom"].index(name)]
            total = total + through
    return total


def compress(teacher: list[dict], t_weights: dict, student: list[dict], x: torch.Tensor, log: Log,
             energy: bool = False) -> tuple[dict, torch.Tensor, torch.Tensor]:
    """Make the student's weights, except those of the classifier.

    teacher, t_weights: the teacher's layers and weights.
    student: the student's layers.
    x: the calibration pictures.
    log: the log.
    energy: choose channels for their share in the L2 objective, too.

    Channels are chosen in equal parts for their values and, because dreams follow gradients, for how much they change
    if some noise is added to x. Returns the weights, and pool5 of teacher and student for x, (N, C) each.
    """
    rng = torch.Generator().manual_seed(SEED)
    weights, kept = {}, {"data": [0, 1, 2]}
    noisy = x + NOISE * torch.randn(x.shape, generator=rng)
    t_blobs, s_blobs = {"data": torch.cat([x, noisy]).contiguous(memory_format=torch.channels_last)}, {"data": x}
    last_use = {b: i for i, layer in enumerate(teacher) for b in layer["bottom"]}

    def run(layer, blobs, w):
        with torch.no_grad():
            parts = zip(*(blobs[b].split(32) for b in layer["bottom"]))
            blob = torch.cat([run_layer(layer, list(part), w) for part in parts])
            return blob.contiguous(memory_format=torch.channels_last)

    for i, (layer, thin) in enumerate(zip(teacher[:-1], student)):
        name, bottoms = layer["name"], layer["bottom"]
        if name in t_weights:
            wt, bt = t_weights[name]
            blob = t_blobs[bottoms[0]]
            h, w = [(size + 2 * layer["pad"] - layer["k"]) // layer["stride"] + 1 for size in blob.shape[2:]]
            where = [torch.randint(0, size, (POSITIONS,), generator=rng) for size in (len(x), h, w)]
            in_noisy = [where[0] + len(x), *where[1:]]
            y, y2 = (patches(blob, at, layer) @ wt.permute(0, 2, 3, 1).flatten(1).t() + bt for at in (where, in_noisy))
            norm = importance(teacher, t_weights, name).sqrt().float()
            z, slope = F.relu(y), (y2 - y) * (y > 0)
            moments = [gram(z * norm), gram(slope * norm)]
            if energy and not name.endswith("reduce"):
                moments.append(gram(z))
            kept[name], left = choose(sum(m / m.trace() for m in moments), thin["n"])
            rows = patches(s_blobs[bottoms[0]], where, thin)
            ws, bs, first, last = solve(rows, y[:, kept[name]])
            ws = ws.reshape(thin["n"], layer["k"], layer["k"], -1).permute(0, 3, 1, 2)
            weights[name] = [ws.contiguous(memory_format=torch.channels_last), bs]
            log(name, "channels", thin["n"], of=layer["n"])
            log(name, "trace left", left)
            log(name, "residual first", first)
            log(name, "residual last", last)
        t_blobs[name], s_blobs[name] = run(layer, t_blobs, t_weights), run(thin, s_blobs, weights)
        for b in set(bottoms):
            if last_use[b] == i:
                del t_blobs[b], s_blobs[b]
    return weights, t_blobs["pool5/7x7_s1"].flatten(1)[:len(x)], s_blobs["pool5/7x7_s1"].flatten(1)


# ---- classifiers

def features(layers: list[dict], weights: dict, files: Sequence[Path], batch: int = 32) -> torch.Tensor:
    """Compute pool5 of the middle of each picture, (N, C). batch: number of pictures to compute at a time."""
    with torch.no_grad():
        return torch.cat([forward(layers, weights, stack(files[i:i + batch]), ["pool5/7x7_s1"])["pool5/7x7_s1"]
                          for i in range(0, len(files), batch)]).flatten(1)


def ridge_classifier(x: torch.Tensor, y: torch.Tensor, ridge: float = 1e-2) -> list[torch.Tensor]:
    """Fit a classifier by least squares.

    x: pool5, (N, C).
    y: the teacher's logits, (N, n).
    ridge: relative to the mean of the diagonal.

    Returns weight (n, C) and bias (n).
    """
    mx, my = x.mean(0), y.mean(0)
    a = (x - mx).double()
    g = a.t() @ a
    g = g + ridge * g.trace() / len(g) * torch.eye(len(g), dtype=g.dtype)
    w = torch.linalg.solve(g, a.t() @ (y - my).double()).float()
    return [w.t().contiguous(), my - mx @ w]


def logistic_classifier(x: torch.Tensor, labels: torch.Tensor, n: int, decay: float = 3e-3,
                        steps: int = 400) -> list[torch.Tensor]:
    """Fit a classifier by multinomial logistic regression, with L-BFGS.

    x: pool5, (N, C).
    labels: the classes, (N,).
    n: the number of classes.
    decay: weight of the L2 regularization, for standardized features.
    steps: maximum number of iterations.

    Returns weight (n, C) and bias (n).
    """
    mean, std = x.mean(0), x.std(0) + 1e-6
    z = (x - mean) / std
    w = torch.zeros(n, z.shape[1], requires_grad=True)
    b = torch.zeros(n, requires_grad=True)
    optimizer = torch.optim.LBFGS([w, b], max_iter=steps, history_size=20, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = F.cross_entropy(F.linear(z, w, b), labels) + decay * (w * w).sum()
        value.backward()
        return value
    optimizer.step(loss)
    w, b = w.detach(), b.detach()
    return [w / std, b - (w / std) @ mean]


# ---- a teacher that prefers scenes

def scene_share(layers: list[dict], weights: dict, objects: dict, places: dict,
                rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """Measure how much the channels of the block outputs respond to scenes rather than to objects.

    layers, weights: the teacher.
    objects, places: from `picture_files`.

    Returns {block output: 2 Es / (Es + Eo) for each channel}. Es is the mean energy for the scenes in BUILT, Eo that
    for the three classes of objects with the strongest response, because a channel for an animal responds to few
    classes.
    """
    ends = [output(b) for b in BLOCKS]

    def energy(classes, n):
        table = {end: [] for end in ends}
        for name in sorted(classes):
            x = stack([classes[name][0][i] for i in rng.choice(len(classes[name][0]), n, replace=False)], rng)
            with torch.no_grad():
                blobs = forward(layers, weights, x, ends)
            for end in ends:
                table[end].append((blobs[end].double() ** 2).mean((0, 2, 3)))
        return {end: torch.stack(rows) for end, rows in table.items()}
    es = energy({name: places[name] for name in BUILT}, 32)
    eo = energy({name: files for name, files in objects.items() if name != "church"}, 16)
    share = {}
    for end in ends:
        s, o = es[end].mean(0), eo[end].topk(3, 0).values.mean(0)
        share[end] = 2 * s / (s + o + 1e-9)
    return share


def with_gains(layers: list[dict], weights: dict, share: dict[str, torch.Tensor]) -> dict:
    """Scale the channels of the block outputs by share^PLACES_GAIN, and the weights that read them by the inverse.

    layers, weights: the net.
    share: from `scene_share`.

    Returns the new weights. ReLU, max pooling and concat commute with positive factors, so the logits stay the same,
    but the L2 objective of a block output does not.
    """
    weights = {name: [a.clone() for a in arrays] for name, arrays in weights.items()}
    for layer in layers:
        if layer["type"] != "Concat":
            continue
        gain = share[layer["name"]].clamp(min=PLACES_FLOOR).pow(PLACES_GAIN).float()
        for name, g in zip(layer["bottom"], gain.split([len(weights[b][1]) for b in layer["bottom"]])):
            weights[name][0] *= g.view(-1, 1, 1, 1)
            weights[name][1] *= g
        for name in readers(layers, layer["name"]):
            w = weights[name][0]
            w /= gain.view(1, -1, *[1] * (w.dim() - 2))
    return weights


# ---- Caffe's files

def read_weights(caffemodel: Path) -> dict[str, list[torch.Tensor]]:
    """Read {layer: [arrays]} from a caffemodel."""
    weights = {}
    for layer, arrays in read_caffemodel(caffemodel).items():
        arrays = [torch.tensor(_without_leading_ones(array)) for array in arrays]
        arrays[0] = arrays[0].contiguous(memory_format=torch.channels_last) if arrays[0].dim() == 4 else arrays[0]
        weights[layer] = arrays
    return weights


def _without_leading_ones(array):
    """Undo the four axes that old files give to every array."""
    while array.ndim > 1 and len(array) == 1:
        array = array[0]
    return array


def caffe_layers(layers: list[dict]) -> Iterator[tuple]:
    """Yield the layers for `write_net`, with GoogLeNet's ReLU, Dropout and Softmax layers."""
    yield "data", "Input", [], "data", ["input_param { shape { dim: 1 dim: 3 dim: 224 dim: 224 } }"]
    for layer in layers:
        name, kind, bottoms, body = layer["name"], layer["type"], layer["bottom"], []
        if kind == "Convolution":
            body = [f"num_output: {layer['n']}", f"pad: {layer['pad']}" if layer["pad"] else "",
                    f"kernel_size: {layer['k']}", f"stride: {layer['stride']}" if layer["stride"] > 1 else ""]
            body = [f"convolution_param {{ {' '.join(filter(None, body))} }}"]
        elif kind == "Pooling":
            pad = f" pad: {layer['pad']}" if layer["pad"] else ""
            size = f"kernel_size: {layer['k']} stride: {layer['stride']}{pad}"
            body = [f"pooling_param {{ pool: {layer['kind']} {size} }}"]
        elif kind == "LRN":
            body = ["lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }"]
        elif kind == "InnerProduct":
            body = [f"inner_product_param {{ num_output: {layer['n']} }}"]
        yield name, kind, bottoms, name, body
        if kind == "Convolution":
            head, _, tail = name.rpartition("/")
            relu = f"{head}/relu_{tail.removesuffix('_s2')}"
            yield relu, "ReLU", [name], name, []
        if name == "pool5/7x7_s1":
            yield "pool5/drop_7x7_s1", "Dropout", [name], name, ["dropout_param { dropout_ratio: 0.4 }"]
    yield "prob", "Softmax", ["loss3/classifier"], "prob", []


# ---- measuring

MEASURED = tuple(output(b) for b in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a"))


def measure(teacher: list[dict], t_weights: dict, student: list[dict], weights: dict, files: Sequence[Path],
            rng: np.random.Generator, log: Log) -> None:
    """Log the mean cosine between the dream gradients of teacher and student, on the files and on half-dreamt ones."""
    held = stack(files)
    for name, x in (("held-out", held), ("half-dreamt", half_dreamt(teacher, t_weights, held, rng))):
        t, s = (gradients(net, w, x, MEASURED) for net, w in ((teacher, t_weights), (student, weights)))
        for end in MEASURED:
            log(end, f"gradient cosine {name}", float(F.cosine_similarity(t[end].flatten(1), s[end].flatten(1)).mean()))


class Log:
    """A log with rows (net, layer, what, value, of), which are printed at once and written as CSV at the end."""

    def __init__(self):
        self.rows, self.start, self.net = [], time.time(), ""

    def __call__(self, layer: str, what: str, value: float, of: object = "") -> None:
        """Add a row for the current net."""
        value = f"{value:.6g}" if isinstance(value, float) else str(value)
        self.rows.append((self.net, layer, what, value, of))
        print(f"{time.time() - self.start:6.0f} s  {self.net:13} {layer:26} {what:28} {value} {of}", flush=True)

    def keep(self, path: Path, net: str) -> None:
        """Copy the rows of a net that is not made this time from an older log."""
        if path.exists():
            with open(path, newline="") as f:
                self.rows += [tuple(row) for row in csv.reader(f) if row[0] == net]

    def write(self, path: Path) -> None:
        """Write the log as CSV."""
        self.rows.sort(key=lambda row: row[0])               # settings, mini_imagenet, mini_places
        with open(path, "w", newline="") as f:
            writer = csv.writer(f, lineterminator="\n")
            writer.writerow(("net", "layer", "what", "value", "of"))
            writer.writerows(self.rows)

    def find(self, net: str, what: str) -> dict[str, float]:
        """Return {layer: value} of one quantity."""
        return {layer: float(value) for n, layer, w, value, _ in self.rows if (n, w) == (net, what)}


def plot(log: Log, path: Path) -> None:
    """Draw the errors of the least squares, layer by layer, and the cosines of the gradients, end by end."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    figure, axes = plt.subplots(2, 2, figsize=(13, 9))
    for column, net in enumerate(("mini_imagenet", "mini_places")):
        above, below = axes[0, column], axes[1, column]
        for what in ("trace left", "residual first", "residual last"):
            found = log.find(net, what)
            above.plot(range(len(found)), [max(v, 1e-6) for v in found.values()], ".-", label=what)
        above.set_xticks(range(len(found)), [n.replace("inception_", "") for n in found], rotation=90, fontsize=5)
        above.set(title=f"{net}: share of the energy that is missed", yscale="log")
        for what in ("held-out", "half-dreamt"):
            found = log.find(net, f"gradient cosine {what}")
            below.plot([n[10:12] for n in found], list(found.values()), "o-", label=what)
        below.set(title="cosine of the dream gradient with the teacher's", ylim=(0, 1))
        for axis in (above, below):
            axis.legend()
            axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=80)


# ---- the two nets

def make_imagenet(teacher: list[dict], t_weights: dict, objects: dict, places: dict, labels: Sequence[str], folder:
Path,
                  log: Log) -> None:
    """Make and measure mini_imagenet.

    teacher, t_weights: the teacher's layers and weights.
    objects, places: from `picture_files`.
    labels: names of the classes.
    folder: where the files are written.
    log: the log.
    """
    log.net = "mini_imagenet"
    rng = np.random.default_rng(SEED)
    student = googlenet(MINI, 1000)
    x = calibration(teacher, t_weights, draw(objects, CROPS * 3 // 4, 0, rng) + draw(places, CROPS // 4, 0, rng), rng)
    weights, t_pool, s_pool = compress(teacher, t_weights, student, x, log)
    weights["loss3/classifier"] = ridge_classifier(s_pool, F.linear(t_pool, *t_weights["loss3/classifier"]))

    held = draw(objects, 72, 1, rng) + draw(places, 24, 1, rng)
    measure(teacher, t_weights, student, weights, held, rng, log)
    held = draw(objects, 620, 1, rng)
    t, s = (F.linear(features(net, w, held), *w["loss3/classifier"]).argmax(1)
            for net, w in ((teacher, t_weights), (student, weights)))
    log("loss3/classifier", "label agreement with teacher", float((t == s).double().mean()))
    log("", "caffemodel bytes", write_net(folder, "mini_imagenet", caffe_layers(student), weights, labels))


def make_places(teacher: list[dict], t_weights: dict, objects: dict, places: dict, folder: Path, log: Log) -> None:
    """Make and measure mini_places. The arguments are those of `make_imagenet`."""
    log.net = "mini_places"
    rng = np.random.default_rng(SEED + 1)
    scenes = sorted(places)
    student = googlenet(MINI, len(scenes))
    t_weights = with_gains(teacher, t_weights, scene_share(teacher, t_weights, objects, places, rng))
    x = calibration(teacher, t_weights, draw(places, CROPS * 2 // 3, 0, rng) + draw(objects, CROPS // 3, 0, rng), rng)
    weights, _, _ = compress(teacher, t_weights, student, x, log, energy=True)

    files = [(f, k) for k, name in enumerate(scenes) for f in places[name][0]]
    pool5 = features(student, weights, [f for f, _ in files])
    truth = torch.tensor([k for _, k in files])
    weights["loss3/classifier"] = logistic_classifier(pool5, truth, len(scenes))

    measure(teacher, t_weights, student, weights, draw(places, 72, 1, rng) + draw(objects, 24, 1, rng), rng, log)
    held = [(f, k) for k, name in enumerate(scenes) for f in places[name][1]]
    answer = F.linear(features(student, weights, [f for f, _ in held]), *weights["loss3/classifier"]).argmax(1)
    right = answer == torch.tensor([k for _, k in held])
    log("loss3/classifier", "scene top-1 held-out", float(right.double().mean()))
    log("", "caffemodel bytes", write_net(folder, "mini_places", caffe_layers(student), weights, scenes))


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--teacher", type=Path, required=True, metavar="FOLDER",
                        help="a folder with bvlc_googlenet.caffemodel and synset_words.txt")
    parser.add_argument("--images", type=Path, required=True, metavar="FOLDER",
                        help="a folder with objects/CLASS/*.jpg and places/CLASS/*.jpg")
    parser.add_argument("--out", type=Path, default=HERE, metavar="FOLDER",
                        help="where the folders of the nets and the log are written (default: models)")
    parser.add_argument("--only", choices=("mini_imagenet", "mini_places"),
                        help="make one net only; the log keeps its rows for the other one")
    a = parser.parse_args()
    torch.manual_seed(SEED)
    log = Log()
    for name in ("SEED", "SIZE", "CROPS", "POSITIONS", "ROUNDS", "RIDGE", "NOISE", "PLACES_GAIN", "PLACES_FLOOR"):
        log("", name, globals()[name])
    teacher, t_weights = googlenet(GOOGLENET, 1000), read_weights(a.teacher / "bvlc_googlenet.caffemodel")
    objects, places = picture_files(a.images / "objects"), picture_files(a.images / "places")
    if a.only:
        log.keep(a.out / "make_mini_log.csv", "mini_places" if a.only == "mini_imagenet" else "mini_imagenet")
    if a.only != "mini_places":
        labels = (a.teacher / "synset_words.txt").read_text().split("\n")[:1000]
        make_imagenet(teacher, t_weights, objects, places, labels, a.out / "mini_imagenet", log)
    if a.only != "mini_imagenet":
        make_places(teacher, t_weights, objects, places, a.out / "mini_places", log)
    log.write(a.out / "make_mini_log.csv")
    plot(log, a.out / "make_mini_log.png")


if __name__ == "__main__":
    main()

"""Makes the two small nets, mini_imagenet and mini_places, from the behaviour of BVLC GoogLeNet (the teacher).

    python models/make_mini.py --teacher FOLDER --images FOLDER [--out FOLDER]

FOLDER of the teacher: deploy.prototxt's caffemodel and synset_words.txt; FOLDER of the images: objects/CLASS/*.jpg and
places/CLASS/*.jpg. The last tenth of every class is held out: nothing is made from it, everything is measured on it.

1. Calibration pictures: crops of 112 px, a third of them half-dreamt by the teacher, since dreams visit such pictures.
2. Layer by layer in net order, the student fed with what the student itself computes: keep the channels that the
   rest of the teacher can least do without, solve their weights by least squares from the student's input patches.
3. The classifier on pool5: by ridge to the teacher's logits (imagenet), by logistic regression to the scenes (places).
For mini_places the teacher is first re-scaled, channel by channel, so that what answers to buildings is loud and what
answers to animals is faint: its logits stay the same, its dreams do not.

Blobs are N,C,H,W float32, BGR minus MEAN, held channels-last. One thread: the same files come out again, to rounding.
"""
import argparse
import csv
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from deepdream.convert.caffe.caffe_pb2 import NetParameter  # noqa: E402
from deepdream.models.caffe_files import write_net  # noqa: E402

torch.set_num_threads(1)

SEED = 0
SIZE = 112                                                   # pixels of a calibration picture
CROPS = 2400                                                 # calibration pictures a net
POSITIONS = 30000                                            # rows of a layer's least squares
ROUNDS = 8                                                   # solves a layer
RIDGE = 2e-5                                                 # of the mean squared input
NOISE = 3.0                                                  # grey levels: the small change that slopes are taken over
MEAN = torch.tensor([104.0, 116.0, 122.0]).view(3, 1, 1)     # B,G,R
PLACES_GAIN = 3.0                                            # exponent of a channel's scene share
PLACES_FLOOR = 0.03                                          # smallest share

BLOCKS = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
# channels: 7x7 | 3x3_reduce, 3x3 | 1x1, 3x3_reduce, 3x3, 5x5_reduce, 5x5, pool_proj
GOOGLENET = {
    "conv1": (64,), "conv2": (64, 192),
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64), "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128)}
# almost whole at the bottom, where an error is in everything above it; a quarter at the top, where few dreams go
MINI = {
    "conv1": (63,), "conv2": (63, 188),
    "3a": (60, 88, 118, 15, 30, 30), "3b": (114, 108, 162, 29, 82, 56),
    "4a": (138, 80, 160, 14, 40, 54), "4b": (112, 86, 162, 19, 47, 48), "4c": (94, 94, 180, 19, 47, 48),
    "4d": (82, 99, 184, 24, 44, 48), "4e": (138, 102, 188, 22, 70, 76),
    "5a": (108, 66, 108, 14, 42, 50), "5b": (96, 56, 80, 12, 28, 36)}
# scenes that are built, and stand for what mini_places should dream of
BUILT = """abbey amphitheater aqueduct bridge cemetery chalet church_outdoor courtyard dam fountain lighthouse
monastery_outdoor palace skyscraper staircase temple_east_asia lobby corridor highway""".split()


# ---- the net: a list of layers, weights beside it as {name: [weight, bias]}

def conv(name, bottom, n, k=1, stride=1, pad=0):
    return dict(name=name, type="Convolution", bottom=[bottom], n=n, k=k, stride=stride, pad=pad)


def pool(name, bottom, kind, k, stride, pad=0):
    return dict(name=name, type="Pooling", bottom=[bottom], kind=kind, k=k, stride=stride, pad=pad)


def googlenet(width, classes):
    """GoogLeNet's layers in net order for the channels in `width`; every convolution is followed by its ReLU."""
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


def output(block):
    return f"inception_{block}/output"


def lrn(x):
    """x * (1 + alpha/n * sum of the 5 neighbouring channels' squares)^-beta (Caffe: lrn_layer.cpp)."""
    c = x.shape[1]
    square = F.pad((x * x).permute(0, 2, 3, 1), (2, 2))
    near = sum(square[..., i:i + c] for i in range(5)).permute(0, 3, 1, 2)
    return x * (1 + 1e-4 / 5 * near).pow(-0.75)


def run_layer(layer, bottoms, weights):
    x = bottoms[0]
    if layer["type"] == "Convolution":
        return F.relu(F.conv2d(x, *weights[layer["name"]], layer["stride"], layer["pad"]))
    if layer["type"] == "Pooling" and layer["kind"] == "MAX":
        return F.max_pool2d(x, layer["k"], layer["stride"], layer["pad"], ceil_mode=True)
    if layer["type"] == "Pooling":
        return x.mean((2, 3), keepdim=True)                  # the whole map, whatever its size; at 224 px the 7x7
    if layer["type"] == "LRN":
        return lrn(x)
    if layer["type"] == "Concat":
        return torch.cat(bottoms, 1)
    return F.linear(x.flatten(1), *weights[layer["name"]])


def forward(layers, weights, x, ends):
    """{end: its blob} for data x."""
    blobs, left = {"data": x}, set(ends)
    for layer in layers:
        blobs[layer["name"]] = run_layer(layer, [blobs[b] for b in layer["bottom"]], weights)
        left.discard(layer["name"])
        if not left:
            return {end: blobs[end] for end in ends}


def gradients(layers, weights, x, ends, batch=16):
    """{end: d(1/2 |E|^2) / d data}, N,3,H,W: Caffe's data.diff after end.diff = end.data, each picture by itself."""
    parts = {end: [] for end in ends}
    for start in range(0, len(x), batch):
        data = x[start:start + batch].clone(memory_format=torch.channels_last).requires_grad_()
        blobs = forward(layers, weights, data, ends)
        for end in ends:
            parts[end].append(torch.autograd.grad(blobs[end], data, blobs[end].detach(), retain_graph=True)[0])
    return {end: torch.cat(part) for end, part in parts.items()}


def readers(layers, name):
    """The names of the layers with weights that read blob `name`, directly or through a pooling."""
    found = []
    for layer in layers:
        if name in layer["bottom"]:
            found += readers(layers, layer["name"]) if layer["type"] == "Pooling" else [layer["name"]]
    return found


# ---- pictures

def picture_files(folder):
    """{class: (files to make from, files to measure on)}: the last tenth of each class, by name, is held out."""
    found = {}
    for sub in sorted(p for p in Path(folder).iterdir() if p.is_dir()):
        files = sorted(sub.glob("*.jpg"))
        cut = len(files) - len(files) // 10
        found[sub.name] = files[:cut], files[cut:]
    return found


def draw(classes, n, part, rng):
    """n files, the classes in turn; part 0: to make from, 1: held out."""
    lists = [classes[name][part] for name in sorted(classes)]
    return [lists[i % len(lists)][rng.integers(len(lists[i % len(lists)]))] for i in range(n)]


def to_data(image):
    return torch.from_numpy(np.asarray(image, np.float32)[..., ::-1].copy()).permute(2, 0, 1) - MEAN


def square(path, rng=None):
    """A picture as data, 3,SIZE,SIZE: its middle, or with rng a random crop, mirrored, its light and colours shaken."""
    image = Image.open(path).convert("RGB")
    w, h = image.size
    side = min(w, h) * (rng.uniform(0.6, 1) if rng else 1)
    x, y = (rng.uniform(0, w - side), rng.uniform(0, h - side)) if rng else ((w - side) / 2, (h - side) / 2)
    image = image.resize((SIZE, SIZE), Image.BILINEAR, box=(x, y, x + side, y + side))
    if rng:
        if rng.random() < 0.5:
            image = image.transpose(Image.FLIP_LEFT_RIGHT)
        for shake in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = shake(image).enhance(rng.uniform(0.7, 1.3))
    return to_data(image)


def stack(files, rng=None):
    return torch.stack([square(f, rng) for f in files]).contiguous(memory_format=torch.channels_last)


def half_dreamt(layers, weights, x, rng):
    """x after 2 to 5 of the notebook's steps (step_size 1.5, clipped) at 3b, 4b, 4c, 4d, 4e in turn, by eights."""
    done = []
    for i, part in enumerate(x.split(8)):
        end = output(("3b", "4b", "4c", "4d", "4e")[i % 5])
        for _ in range(rng.integers(2, 6)):
            g = gradients(layers, weights, part, [end])[end]
            part = part + 1.5 / g.abs().mean((1, 2, 3), keepdim=True) * g
            part = torch.minimum(torch.maximum(part, -MEAN), 255 - MEAN)
        done.append(part)
    return torch.cat(done).contiguous(memory_format=torch.channels_last)


def calibration(layers, weights, files, rng):
    """Crops of the files in random order, the first third of them half-dreamt."""
    x = stack([files[i] for i in rng.permutation(len(files))], rng)
    third = len(x) // 3
    x[:third] = half_dreamt(layers, weights, x[:third], rng)
    return x


# ---- which channels to keep, and their weights

def choose(moments, n):
    """n columns, in order, of a positive matrix (C,C) that leave the least trace when the others are projected on them;
    and the share of the trace that is left. Greedy: each round takes the column that removes most, |R_j|^2 / R_jj."""
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


def gram(rows):
    """rows^T rows, summed in double precision."""
    return sum((part.t() @ part).double() for part in rows.split(8192))


def solve(x, y):
    """Weights W, bias b with relu(x W + b) near relu(y).

    x: rows of the student's patches (P,d); y: the teacher's pre-activations, before the ReLU, there (P,n).
    Ridge least squares, ROUNDS times: where the teacher is negative, a negative answer is right as it is, and only a
    positive one is pulled to 0. The normal matrix stays, so it is factored once. Returns W (n,d), b (n), and the
    residual |relu - relu|^2 / |relu|^2 of the first round and of the last."""
    size = x.pow(2).mean(0).sqrt().clamp(min=1e-12)          # to the ridge, faint columns are worth loud ones
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


def patches(blob, where, layer):
    """The layer's input patches at `where` (n, y, x indices, each P): rows (P, k*k*C), in the order k, k, C."""
    n, y, x = where
    p, s, k = layer["pad"], layer["stride"], layer["k"]
    blob = F.pad(blob.permute(0, 2, 3, 1), (0, 0, p, p, p, p))
    return torch.cat([blob[n, y * s + i, x * s + j] for i in range(k) for j in range(k)], 1)


def importance(layers, weights, name):
    """How loudly each channel of blob `name` is read: the squared norm of all the weights that multiply it."""
    total = 0
    for layer in layers:
        if name not in layer["bottom"]:
            continue
        if layer["name"] in weights:
            w = weights[layer["name"]][0].double()
            total = total + (w * w).sum([axis for axis in range(w.dim()) if axis != 1])
        else:
            through = importance(layers, weights, layer["name"])
            if layer["type"] == "Concat":                    # only this branch's part
                sizes = [len(weights[b][1]) for b in layer["bottom"]]
                through = through.split(sizes)[layer["bottom"].index(name)]
            total = total + through
    return total


def compress(teacher, t_weights, student, x, log, energy=False):
    """The student's weights, and pool5 of teacher and student (N,C each) on the calibration pictures x.

    The teacher also sees x with a little noise: channels are chosen for their values and for their slopes, in equal
    parts, because a dream follows slopes; with energy=True, in equal part also for what they add to 1/2|E|^2."""
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
            moved = [where[0] + len(x), *where[1:]]
            y, y2 = (patches(blob, at, layer) @ wt.permute(0, 2, 3, 1).flatten(1).t() + bt for at in (where, moved))
            loud = importance(teacher, t_weights, name).sqrt().float()
            z, slope = F.relu(y), (y2 - y) * (y > 0)
            moments = [gram(z * loud), gram(slope * loud)]
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

def features(layers, weights, files, batch=32):
    """pool5 (N,C) of the files' middles."""
    with torch.no_grad():
        return torch.cat([forward(layers, weights, stack(files[i:i + batch]), ["pool5/7x7_s1"])["pool5/7x7_s1"]
                          for i in range(0, len(files), batch)]).flatten(1)


def ridge_classifier(x, y, ridge=1e-2):
    """Weight (n,C), bias (n): least squares from pool5 x (N,C) to the teacher's logits y (N,n)."""
    mx, my = x.mean(0), y.mean(0)
    a = (x - mx).double()
    g = a.t() @ a
    g = g + ridge * g.trace() / len(g) * torch.eye(len(g), dtype=g.dtype)
    w = torch.linalg.solve(g, a.t() @ (y - my).double()).float()
    return [w.t().contiguous(), my - mx @ w]


def logistic_classifier(x, labels, n, decay=3e-3, steps=400):
    """Weight (n,C), bias (n): multinomial logistic regression by L-BFGS on standardized pool5 features."""
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


# ---- the teacher that prefers scenes

def scene_share(layers, weights, objects, places, rng):
    """{block output: 2 Es / (Es + Eo) of each channel}: Es its mean energy on scenes that are built, Eo on the three
    classes of objects that stir it most (an animal's channel is loud for a few classes, and silent for the others)."""
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


def with_gains(layers, weights, share):
    """The same net with every block output channel times share^PLACES_GAIN and its readers' weights divided by that.

    ReLU, max pooling and concat pass a positive factor on, so the logits stay; 1/2|E|^2 of a block output does not."""
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

def read_weights(caffemodel):
    """{layer: [arrays]} of a V2 caffemodel."""
    net, weights = NetParameter(), {}
    net.ParseFromString(Path(caffemodel).read_bytes())
    for layer in net.layer:
        arrays = [torch.tensor(np.array(b.data, np.float32).reshape(tuple(b.shape.dim))) for b in layer.blobs]
        if arrays:
            arrays[0] = arrays[0].contiguous(memory_format=torch.channels_last) if arrays[0].dim() == 4 else arrays[0]
            weights[layer.name] = arrays
    return weights


def caffe_layers(layers):
    """The layers under Caffe's names and in its order, ReLU, Dropout and Softmax among them: (name, type, bottoms, top,
    lines of parameters)."""
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


def measure(teacher, t_weights, student, weights, files, rng, log):
    """Logs the mean cosine of the dream gradient, teacher to student, on held-out pictures and on half-dreamt ones."""
    held = stack(files)
    for name, x in (("held-out", held), ("half-dreamt", half_dreamt(teacher, t_weights, held, rng))):
        t, s = (gradients(net, w, x, MEASURED) for net, w in ((teacher, t_weights), (student, weights)))
        for end in MEASURED:
            log(end, f"gradient cosine {name}", float(F.cosine_similarity(t[end].flatten(1), s[end].flatten(1)).mean()))


class Log:
    """Rows (net, layer, what, value, of), printed as they come with the seconds since the start, and kept as CSV."""

    def __init__(self):
        self.rows, self.start, self.net = [], time.time(), ""

    def __call__(self, layer, what, value, of=""):
        value = f"{value:.6g}" if isinstance(value, float) else str(value)
        self.rows.append((self.net, layer, what, value, of))
        print(f"{time.time() - self.start:6.0f} s  {self.net:13} {layer:26} {what:28} {value} {of}", flush=True)

    def keep(self, path, net):
        """Takes over the rows of a net that is not made this time."""
        if path.exists():
            with open(path, newline="") as f:
                self.rows += [tuple(row) for row in csv.reader(f) if row[0] == net]

    def write(self, path):
        self.rows.sort(key=lambda row: row[0])               # settings, mini_imagenet, mini_places; else as they came
        with open(path, "w", newline="") as f:
            writer = csv.writer(f, lineterminator="\n")
            writer.writerow(("net", "layer", "what", "value", "of"))
            writer.writerows(self.rows)

    def find(self, net, what):
        return {layer: float(value) for n, layer, w, value, _ in self.rows if (n, w) == (net, what)}


def plot(log, path):
    """The log's curves: what the solves left over, layer by layer, and the gradient cosines, end by end."""
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

def make_imagenet(teacher, t_weights, objects, places, labels, folder, log):
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


def make_places(teacher, t_weights, objects, places, folder, log):
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--teacher", type=Path, required=True, help="with bvlc_googlenet.caffemodel, synset_words.txt")
    parser.add_argument("--images", type=Path, required=True, help="folder with objects/ and places/")
    parser.add_argument("--out", type=Path, default=HERE, help="where the nets' folders and the log go")
    parser.add_argument("--only", choices=("mini_imagenet", "mini_places"),
                        help="make one net; the log keeps its rows of the other")
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

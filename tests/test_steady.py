"""Steady dreams: the detail moves along, cuts are found, ends over time, working ahead."""
import threading

import films
import numpy as np
import pytest

from deepdream import DreamError, Net, deepdream
from deepdream.film import cuts, flow
from deepdream.film.ahead import ahead
from deepdream.film.steady import State, Steady, dream_frames
from deepdream.film.timeline import TIME, Timeline

STEPS = {"end": "both", "octave_n": 2, "jitter": 4}


@pytest.fixture(scope="module")
def net(toy):
    return Net(str(toy), device="cpu", threads=1)


@pytest.fixture
def cv2():
    return pytest.importorskip("cv2", reason="needs the package opencv-python-headless")


def rms(x):
    return float(np.sqrt(np.mean(np.square(x))))


def change(frames, dreams, speed):
    """Return the part of the details that is not that of the frame before, moved along."""
    details = [np.float32(d) - f for d, f in zip(dreams, np.float32(frames))]
    w = np.shape(frames)[2] - speed
    pairs = [(b[:, :w], a[:, speed:]) for a, b in zip(details, details[1:])]
    return np.median([rms(b - a) / rms(b) for b, a in pairs])


def test_the_detail_moves_along(cv2, net):
    frames = films.moving(8, h=96, w=128, speed=3)
    steady = list(dream_frames(net, frames, iter_n=10, seed=1, **STEPS))
    single = [deepdream(net, frame, iter_n=10, seed=1, on_step=lambda *_: None, **STEPS) for frame in frames]
    assert np.array_equal(steady[0], single[0])
    assert change(frames, steady, 3) < 0.5 * change(frames, single, 3)
    sizes = [rms(d - f) for d, f in zip(steady, frames)]
    assert all(0.6 < size / sizes[0] < 1.5 for size in sizes)


def test_dis_finds_the_motion(cv2):
    frames = films.moving(2, h=64, w=96, speed=3)
    found = flow.dis(*map(flow.grey, frames))
    assert found.believed[:, 8:-8].mean() > 0.95 and not found.believed[:, -2:].any()
    assert np.abs(found.back[8:-8, 8:-8] - [3, 0]).mean() < 0.2
    moved = flow.moved(np.float32(frames[0]), found)
    assert np.abs(moved - frames[1])[found.believed].mean() < 2


def test_what_hides_and_what_appears_is_not_believed(cv2):
    before, now = np.float32(films.scene(1, 64, 96)), np.float32(films.scene(1, 64, 96))
    patch = np.float32(films.scene(9, 32, 32))
    before[16:48, 20:52] = now[16:48, 26:58] = patch
    found = flow.dis(flow.grey(before), flow.grey(now)).believed
    assert found[20:44, 32:52].mean() > 0.8                  # the patch
    assert found[18:46, 21:25].mean() < 0.5                  # what it covered before
    assert found[:, 70:].mean() > 0.95


def test_a_change_of_the_light_is_no_cut(cv2):
    frame = films.scene(1)
    assert not cuts.is_cut(frame, np.uint8(frame * 0.85))
    assert flow.none(flow.grey(frame), flow.grey(frame) // 2 + 40).believed.mean() < 1


@pytest.mark.parametrize("way", ["dis", "none"])
def test_cuts(way, cv2):
    frames = [cuts.thumbnail(frame) for frame in films.with_cut(4, h=96, w=128, speed=4)]
    if way == "none":
        frames = [frame if i < 4 else frame // 3 for i, frame in enumerate(frames)]
    assert [cuts.is_cut(a, b, way) for a, b in zip(frames, frames[1:])] == [False] * 3 + [True] + [False] * 3


def test_newly_seen_areas_fill(cv2, net):
    """What came into view is not bald: its detail is much stronger than if steps there were as small as elsewhere."""
    frames = films.moving(10, h=96, w=128, speed=4)
    dreams = list(dream_frames(net, frames, iter_n=10, seed=1, **STEPS))
    detail = dreams[-1] - frames[-1]
    alone = deepdream(net, frames[-1], iter_n=10, seed=1, on_step=lambda *_: None, **STEPS) - frames[-1]
    one = deepdream(net, frames[-1], iter_n=1, seed=1, on_step=lambda *_: None, **STEPS) - frames[-1]
    new, recent = slice(-4, None), slice(-16, -4)      # seen for the first time, and for up to four frames
    assert 1.4 * rms(one[:, new]) < rms(detail[:, new]) < 1.8 * rms(alone[:, new])
    assert 0.4 < rms(detail[:, recent]) / rms(alone[:, recent]) < 1.8


def test_flow_none_keeps_the_detail_in_place(net):
    frames = np.stack([films.scene(1, 64, 96)] * 5)
    dreams = list(dream_frames(net, frames, iter_n=10, seed=1, flow="none", **STEPS))
    assert change(frames, dreams, 0) < 0.4


def test_the_detail_does_not_grow(net):
    """In a still, all steps can point in the same direction; and even if all of the detail is taken over."""
    frames = [films.scene(1, 64, 96)] * 30
    for keep, most in ((None, 1.25), (1.0, 1.3)):
        dreams = dream_frames(net, frames, iter_n=10, seed=1, flow="none", keep=keep, **STEPS)
        sizes = [rms(dream - frames[0]) for dream in dreams]
        assert all(0.75 < size / sizes[0] < most for size in sizes)


def test_a_mask(cv2, net):
    frames, mask = films.moving(3, h=64, w=96), np.zeros((64, 96), np.float32)
    mask[:, 48:] = 1
    for dream, frame in zip(dream_frames(net, frames, iter_n=4, seed=1, mask=mask, **STEPS), frames):
        assert np.array_equal(dream[:, :40], frame[:, :40]) and rms(dream[:, 56:] - frame[:, 56:]) > 1


def test_black_frames_stay_black(net, capsys):
    frames = np.concatenate([np.zeros((2, 64, 96, 3), np.uint8), films.moving(2, h=64, w=96)])

    def objective(dst):
        dst.diff[...] = dst.data * (net.blobs["data"].data.mean() > -80)      # minus the mean, black is about -114
    dreams = list(dream_frames(net, frames, iter_n=2, seed=1, flow="none", objective=objective, **STEPS))
    assert np.array_equal(dreams[1], frames[1]) and rms(dreams[3] - frames[3]) > 1
    assert "such as black ones, stay as they are" in capsys.readouterr().err


def test_the_state_of_a_shot(cv2, net):
    """The next frame depends on nothing but the state that the work folder saves."""
    frames = films.moving(4)
    motions = [None] + [flow.dis(flow.grey(a), flow.grey(b)) for a, b in zip(frames, frames[1:])]
    one, two = Steady(net, 4, seed=3), Steady(net, 4, seed=3)
    dreams = [one.dream(frame, motion, **STEPS) for frame, motion in zip(frames, motions)]
    for frame, motion in list(zip(frames, motions))[:2]:
        two.dream(frame, motion, **STEPS)
    new = Steady(net, 4, seed=3)
    new.state = State(*(array.copy() for array in two.state))
    for i in (2, 3):
        assert np.array_equal(new.dream(frames[i], motions[i], **STEPS), dreams[i])


@pytest.mark.parametrize("options, message", [
    ({"steps": 3, "iter_n": 2}, "steps is 3; allowed is a whole number from 1 to iter_n, 2"),
    ({"keep": 1.5}, "keep is 1.5; allowed is a number from 0 to 1"),
    ({"flow": "raft"}, "flow is raft; allowed is dis or none")])
def test_options_that_are_not_allowed(net, options, message):
    with pytest.raises(DreamError, match=message):
        next(dream_frames(net, films.moving(1), **{**STEPS, **options}))


def test_frames_of_two_sizes(net):
    with pytest.raises(DreamError, match="frame 1: has the shape"):
        list(dream_frames(net, [films.scene(1), films.scene(1, 40, 40)], iter_n=1, flow="none", **STEPS))


# ---- ends over time

def test_timeline():
    line = Timeline.of(["a@0", "c@1:05", "b:0.3@5s", "a[3@0.5,0.5]@5"], fade=2)
    assert line.starts == (0, 5, 65) and line.groups == (("a",), ("b:0.3", "a[3@0.5,0.5]"), ("c",))
    assert [line.at(t) for t in (-1, 0, 4.9, 5, 6, 7, 64, 66)] == [
        (0, 1), (0, 1), (0, 1), (0, 1), (1, 0.5), (1, 1), (1, 1), (2, 0.5)]
    assert Timeline.of(["a", "b@5"], fade=0).at(5) == (1, 1)
    assert Timeline.of(["n[3@0.5,0.25]"]).groups == (("n[3@0.5,0.25]",),)
    with pytest.raises(DreamError, match="no END begins with the film"):
        Timeline.of(["a@1"])


def test_times():
    assert [TIME.of_word(w) for w in ("5", "2.5s", "1:30", "1:02:30.5")] == [5, 2.5, 90, 3750.5]
    for word in ("", "s", "-1", "1e3", "1:2:3:4", "nan"):
        with pytest.raises(ValueError, match="is not a time"):
            TIME.of_word(word)


# ---- working ahead

def test_ahead():
    assert list(ahead(range(20))) == list(range(20))

    def broken():
        yield 1
        raise DreamError("no more")
    items = ahead(broken())
    assert next(items) == 1
    with pytest.raises(DreamError, match="no more"):
        next(items)


def test_ahead_ends_its_thread():
    before = threading.active_count()
    items = ahead(iter(range(10 ** 9)))
    next(items)
    assert threading.active_count() == before + 1
    items.close()
    assert threading.active_count() == before

"""Dreams as jobs: here, in several processes, or on a Dask cluster, all through the interface of concurrent.futures.

A job is a plain dict, so that it can travel:
    model (a name, a folder, or a dict of what `Net` is to be made with), end (a text as of --end, or a list of them),
    settings (keywords of `deepdream`), priors (as of `recipe`; may be missing), seed, picture and guide (the bytes of
    picture files; no guide: None), size ([w, h], or missing: the picture's own), device, fast (as of `Net`; may be
    missing), threads (of the CPU; None: what the place has)
Its result is one too: `picture` (H, W, 3) uint8, `seconds`, `objective` (before the last step), `device`, `threads` (that
were used, or None); or, for a dream that failed, only `error`, one line.
"""
import gc
import io
import os
import signal
import threading
import time
from collections import Counter, deque
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from ..errors import DreamError

TRIES = 3      # of a dream whose process dies

_one_at_a_time = threading.Lock()      # one net is held at a time; a Dask worker may have several threads
_held = {}                             # the net of the last job: {what it is: Net}


def make(job, on_step=None):
    """Make one dream; the result of a job, see above. Never raises but for Ctrl-C. on_step: as of `deepdream`."""
    with _one_at_a_time:
        try:
            return _make(job, on_step)
        except Exception as error:
            return {"error": reason(error)}


def _make(job, on_step):
    import numpy as np

    from .. import pictures
    from ..dream import deepdream, visible
    from ..goals.text import recipe
    from ..pictures.starts import resized
    begun, told = time.monotonic(), None
    picture, guide = (data and pictures.load(io.BytesIO(data)) for data in (job["picture"], job["guide"]))
    if job.get("size"):
        picture = resized(picture, *job["size"][::-1])
    net, plan = _net(job), recipe(_net(job), _ends(job), guide, job.get("priors"))

    def step(octave, i, vis, now):
        nonlocal told
        told = now
        if on_step:
            on_step(octave, i, vis, now)

    dream = deepdream(net, picture, on_step=step, rng=np.random.RandomState(job["seed"]), **job["settings"], **plan)
    return {"picture": pictures.to_uint8(visible(dream, job["settings"]["clip"])), "objective": told[0],
            "seconds": round(time.monotonic() - begun, 3), "device": net.device.name,
            "threads": net.thread_count}


def _net(job):
    """The job's net. One net with one end's session is held at a time, and freed before the next is loaded."""
    from ..goals.text import needs_surgery
    from ..net import Net
    what = tuple(str(job.get(k)) for k in ("model", "end", "device", "fast", "threads"))
    if what in _held and not _held[what].files.is_current():      # a worker lives long, and files change
        _held.clear()
    if what not in _held:
        _held.clear()
        gc.collect()      # a session frees its memory, the GPU's too, when it is collected
        made_with = job["model"] if isinstance(job["model"], dict) else \
            {"prototxt": job["model"], "surgery": needs_surgery(_ends(job))}
        _held[what] = Net(**made_with, device=job["device"], fast=job.get("fast", False),
                          threads=job["threads"] or _threads_of_worker())
    return _held[what]


def _ends(job):
    return [job["end"]] if isinstance(job["end"], str) else list(job["end"])


def forget():
    """Free the net that is held."""
    _held.clear()
    gc.collect()


def _threads_of_worker():
    """The threads that a Dask worker was given; None anywhere else."""
    try:
        from distributed import get_worker
        return get_worker().state.nthreads
    except (ImportError, ValueError):
        return None


def reason(error):
    """An exception in one line for people."""
    from ..convert.errors import ConvertError
    from ..models.records import ModelError
    if isinstance(error, (DreamError, ConvertError, ModelError)):
        return str(error)
    if isinstance(error, MemoryError):
        return "not enough memory for a picture of this size"
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}"


def run(jobs, workers):
    """Run jobs, {key: job}, and yield (key, result) as they finish.

    A dream whose worker dies is made again, up to TRIES times. Where one death breaks all that runs beside it, nobody
    knows whose fault it was: those dreams are tried again one by one. Leaving early (Ctrl-C) stops what runs.
    """
    waiting, suspects, tries, running = deque(jobs), deque(), Counter(), {}
    try:
        while waiting or suspects or running:
            while (suspects and not running) or (waiting and not suspects and len(running) < workers.width()):
                key = (suspects or waiting).popleft()
                running[workers.submit(jobs[key])] = key
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            lost = []
            while done:
                future = done.pop()
                key = running.pop(future)
                try:
                    result = future.result()
                except workers.lost:
                    lost.append(key)
                    if workers.all_break and running:
                        done |= wait(running).done
                except Exception as error:
                    yield key, {"error": reason(error)}
                else:
                    yield key, result
            if lost:
                workers.renew()
            for key in lost:
                tries[key] += 1
                if tries[key] < TRIES:
                    (suspects if workers.all_break else waiting).append(key)
                else:
                    yield key, {"error": f"its process died {TRIES} times, perhaps for lack of memory"}
    except BaseException:
        workers.stop(running)
        raise


class Here(Executor):
    """This process, one dream at a time. on_step: as of `deepdream`."""
    lost, all_break = (), False

    def __init__(self, on_step=None):
        self.on_step = on_step

    def width(self):
        return 1

    def submit(self, job):
        future = Future()
        future.set_result(make(job, self.on_step))
        return future

    def renew(self):
        pass

    def stop(self, running):
        pass

    def shutdown(self, wait=True, *, cancel_futures=False):
        forget()


class Processes:
    """N processes on this machine."""
    lost, all_break = (BrokenProcessPool, CancelledError), True

    def __init__(self, n):
        self.n = n
        self.renew()

    def renew(self):
        import multiprocessing  # spawn: onnxruntime's threads do not survive a fork
        self.pool = ProcessPoolExecutor(self.n, multiprocessing.get_context("spawn"), _worker_begins)

    def width(self):
        return self.n

    def submit(self, job):
        try:
            return self.pool.submit(make, job)
        except BrokenProcessPool:      # a worker died while it had nothing to do
            self.renew()
            return self.pool.submit(make, job)

    def stop(self, running):
        # the pool's own, not all children of the program; shutdown forgets them
        processes = list((self.pool._processes or {}).values())
        self.pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.pool.shutdown(cancel_futures=True)


def _worker_begins():
    """Ctrl-C is the parent's affair; without a parent there is nothing left to do."""
    import multiprocessing
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch():
        parent.join()
        os._exit(1)
    threading.Thread(target=watch, daemon=True).start()


def _version():
    from .. import __version__
    return __version__


class Cluster:
    """A running Dask cluster. address: of its scheduler, as tcp://host:8786. Its scheduler and its workers must find
    this project (by PYTHONPATH), the workers also the models that are given as folders.

    Dask itself makes a dream again whose worker dies, several times (distributed.scheduler.allowed-failures).
    """
    all_break = False

    def __init__(self, address):
        try:
            import distributed
        except ImportError:
            raise DreamError("--dask: needs the package distributed: pip install distributed") from None
        self.address = address
        self.lost = (distributed.scheduler.KilledWorker, CancelledError)
        try:
            self.client = distributed.Client(address, timeout="10s", set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise DreamError(f"--dask {address}: no scheduler answers there "
                             f"({str(error).splitlines()[0] if str(error) else type(error).__name__})") from None
        try:
            self.client.run_on_scheduler(_version)
            self.client.run(_version)
        except Exception as error:
            self.client.close(timeout=5)
            raise DreamError(f"--dask {address}: this project is not found there: start scheduler and workers with its "
                             f"folder in PYTHONPATH ({reason(error)})") from None
        self.pool = self.client.get_executor(pure=False)

    def width(self):
        """Twice as many dreams as workers are handed out, so that none of them waits for the next."""
        return 2 * max(1, len(self._ask(self.client.nthreads)))

    def submit(self, job):
        return self._ask(self.pool.submit, make, job)

    def _ask(self, function, *arguments):
        try:
            return function(*arguments)
        except Exception as error:      # Dask's own kinds, when the connection is closed
            raise self._gone() from error

    def _gone(self):
        return DreamError(f"--dask {self.address}: the scheduler is gone; the same command goes on from here")

    def renew(self):
        if self.client.status != "running":
            raise self._gone()

    def stop(self, running):
        for future in running:
            future.cancel()
        self.pool.shutdown(wait=False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close(timeout=5)


def workers(n=1, dask=None, on_step=None):
    """Where jobs run: a context manager with what `run` needs. n: processes; dask: a scheduler's address."""
    if dask:
        return Cluster(dask)
    return Here(on_step) if n == 1 else Processes(n)


def threads_each(threads, n):
    """Threads of each of n processes; None, for one process, leaves the number to onnxruntime."""
    return threads if n == 1 else max(1, (threads or _cores()) // n)


def _cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

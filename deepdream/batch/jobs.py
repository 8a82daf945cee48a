"""Dreams as jobs: here, in several processes, or on a Dask cluster, all through the interface of concurrent.futures."""
import gc
import io
import os
import signal
import threading
import time
from collections import Counter, deque
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np

from ..errors import DreamError
from ..options import Settings

TRIES = 3      # of a dream whose process dies


@dataclass(frozen=True)
class Job:
    """A dream to make; it can travel to another process.

    net: keywords of `Net` for its files: prototxt and the like.
    settings: with a seed and an end.
    picture, guide: the bytes of picture files; no guide: None.
    device: as of `Net`. threads: of the CPU; None: as many as the place has.
    """
    net: dict
    settings: Settings
    picture: bytes
    guide: bytes | None = None
    device: str = "auto"
    threads: int | None = None


@dataclass(frozen=True)
class Result:
    """What became of a job: error, one line, if it failed; otherwise

    picture: (H, W, 3) uint8. objective: before the last step. seconds, device, threads: of its making.
    """
    error: str | None = None
    picture: np.ndarray | None = None
    objective: float | None = None
    seconds: float = 0.0
    device: str = ""
    threads: int | None = None


class Maker:
    """Makes dreams, one at a time, and holds the net of the last one."""

    def __init__(self):
        self._lock, self._held = threading.Lock(), (None, None)      # a Dask worker may have several threads

    def make(self, job: Job, on_step=None) -> Result:
        """Make one dream. Never raises but for Ctrl-C. on_step: as of `deepdream`."""
        with self._lock:
            try:
                return self._make(job, on_step)
            except Exception as error:
                return Result(reason(error))

    def forget(self):
        """Free the net that is held."""
        self._held = None, None
        gc.collect()      # a session frees its memory, the GPU's too, when it is collected

    def _make(self, job, on_step):
        from .. import pictures
        from ..dream import deepdream, visible
        from ..goals.text import goals
        from ..pictures.starts import starting_picture
        begun, last, settings = time.monotonic(), None, job.settings
        picture, guide = (data and pictures.load(io.BytesIO(data)) for data in (job.picture, job.guide))
        net = self._net(job)

        def step(octave, i, vis, report):
            nonlocal last
            last = report
            if on_step:
                on_step(octave, i, vis, report)

        dream = deepdream(net, starting_picture(settings, picture), on_step=step,
                          rng=np.random.RandomState(settings.seed), **settings.steps, **goals(net, settings, guide))
        return Result(None, pictures.to_uint8(visible(dream, settings.clip)), last.objective,
                      round(time.monotonic() - begun, 3), net.device.name, net.thread_count)

    def _net(self, job):
        """The job's net. One net with one end's session is held at a time, and freed before the next is loaded."""
        from ..goals.text import needs_surgery
        from ..net import Net
        what, (held, net) = (job.net, job.settings.end, job.settings.fast, job.device, job.threads), self._held
        if net is None or held != what or not net.files.is_current():      # a worker lives long, and files change
            del net
            self.forget()
            arguments = {"surgery": needs_surgery(job.settings.end)} | job.net
            self._held = what, Net(**arguments, device=job.device, fast=job.settings.fast,
                                   threads=job.threads or _threads_of_worker())
        return self._held[1]


maker = Maker()      # of this process: what a worker is sent to do, it does with the net that it holds


def make(job: Job) -> Result:
    """Make one dream in this process."""
    return maker.make(job)


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
    from ..models.cards import ModelError
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
                    yield key, Result(reason(error))
                else:
                    yield key, result
            if lost:
                workers.renew()
            for key in lost:
                tries[key] += 1
                if tries[key] < TRIES:
                    (suspects if workers.all_break else waiting).append(key)
                else:
                    yield key, Result(f"its process died {TRIES} times, perhaps for lack of memory")
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
        future.set_result(self.make(job))
        return future

    def make(self, job, on_step=None):
        """Make a job at once."""
        return maker.make(job, on_step or self.on_step)

    def renew(self):
        pass

    def stop(self, running):
        pass

    def shutdown(self, wait=True, *, cancel_futures=False):
        maker.forget()


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

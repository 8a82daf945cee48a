"""Dreams as jobs: in this process, in several processes, or on a Dask cluster."""
from __future__ import annotations

import gc
import io
import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DreamError
from ..options import Settings

if TYPE_CHECKING:
    from ..net import Net

TRIES = 3      # how often a dream is tried whose process dies


@dataclass(frozen=True)
class Job:
    """A dream to make. It can be sent to another process.

    net: arguments of `Net` that name its files.
    settings: the settings, with a seed and an end.
    picture: contents of the picture file.
    guide: contents of the guide's file, or None.
    device: as in `Net`.
    threads: number of CPU threads; None: one for each core of the machine that makes the dream.
    transparent: dream the colours of a transparent picture. Otherwise it is put on a white background.
    mask: contents of the mask's file, or None.
    """
    net: dict
    settings: Settings
    picture: bytes
    guide: bytes | None = None
    device: str = "auto"
    threads: int | None = None
    transparent: bool = False
    mask: bytes | None = None

    def made_by(self, maker: Maker, on_step: Callable | None = None) -> Result:
        """Make the dream; the method that jobs of every kind have. on_step: as in `deepdream`."""
        return maker.picture(self, on_step)


@dataclass(frozen=True)
class Result:
    """The result of a job.

    error: the reason in one line, if the job failed; the other fields are empty then.
    picture: the dream, uint8 (H, W, 3).
    objective: value of the objective before the last step; None for a function of dst.
    seconds: how long it took.
    device: name of the device on which it was made.
    threads: number of CPU threads that it used.
    """
    error: str | None = None
    picture: np.ndarray | None = None
    objective: float | None = None
    seconds: float = 0.0
    device: str = ""
    threads: int | None = None


class Maker:
    """A maker of dreams, one at a time, which reuses the net of the last one."""

    def __init__(self):
        self._lock, self._cached = threading.Lock(), (None, None)      # a Dask worker may have several threads

    def make(self, job: Job, on_step: Callable | None = None) -> Result:
        """Make one dream. Only Ctrl-C raises an exception; an error is part of the result.

        job: a `Job`, or another one with a method `made_by(maker, on_step)` that returns a Result.
        on_step: passed on to that method; for a `Job` as in `deepdream`.
        """
        with self._lock:
            try:
                return job.made_by(self, on_step)
            except Exception as error:
                return Result(reason(error))

    def forget(self) -> None:
        """Free the cached net."""
        self._cached = None, None
        gc.collect()      # an ONNX Runtime session frees its memory, on the GPU too, when it is collected

    def picture(self, job: Job, on_step: Callable | None) -> Result:
        """Dream a picture; the arguments are those of `make`. Raises exceptions."""
        from .. import pictures
        from ..dream import deepdream, visible
        from ..goals.text import goals
        from ..pictures.mask import load_mask
        from ..pictures.starts import starting_picture
        start, last, settings = time.monotonic(), None, job.settings
        picture = pictures.read(io.BytesIO(job.picture)).pixels(job.transparent)
        guide = job.guide and pictures.load(io.BytesIO(job.guide))
        net, start_picture = self.net(job.net, settings, job.device, job.threads), starting_picture(settings, picture)
        mask = job.mask and load_mask(io.BytesIO(job.mask), *start_picture.shape[:2], settings.mask_edge)

        def step(octave, i, vis, report):
            nonlocal last
            last = report
            if on_step:
                on_step(octave, i, vis, report)

        dream = deepdream(net, start_picture, on_step=step, rng=np.random.RandomState(settings.seed), **settings.steps,
                          **goals(net, settings, guide, mask))
        return Result(None, pictures.to_uint8(visible(dream, settings.clip)), last.objective,
                      round(time.monotonic() - start, 3), net.device.name, net.thread_count)

    def net(self, files: dict, settings: Settings, device: str, threads: int | None) -> Net:
        """Return a net. Only one is in memory at a time, with the session for one end.

        files, settings, device, threads: as in `Job`, where the first is called `net`.
        """
        from ..goals.text import needs_surgery
        from ..net import Net
        key, (cached, net) = (files, settings.end, settings.fast, device, threads), self._cached
        if net is None or cached != key or not net.files.is_current():      # the files may change while a worker runs
            del net
            self.forget()
            arguments = {"surgery": needs_surgery(settings.end)} | files
            self._cached = key, Net(**arguments, device=device, fast=settings.fast,
                                    threads=threads or _threads_of_worker())
        return self._cached[1]


maker = Maker()      # one for each process, so that the jobs of a worker share its net


def make(job: Job) -> Result:
    """Make one dream in this process."""
    return maker.make(job)


def _threads_of_worker():
    """Return the number of threads of a Dask worker; None in any other process."""
    try:
        from distributed import get_worker
        return get_worker().state.nthreads
    except (ImportError, ValueError):
        return None


def reason(error: BaseException) -> str:
    """Describe an exception in one line."""
    from ..convert.errors import ConvertError
    from ..models.cards import ModelError
    if isinstance(error, (DreamError, ConvertError, ModelError)):
        return str(error)
    if isinstance(error, MemoryError):
        return "not enough memory for a picture of this size"
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}"


def run(jobs: dict[Hashable, Job], workers: InProcess | Processes | Cluster) -> Iterator[tuple[Hashable, Result]]:
    """Run jobs, and yield (key, result) as they finish.

    jobs: {key: job}.
    workers: from `workers`.

    A dream whose worker dies is tried again, up to TRIES times in all. If the death of one worker stops all others, any
    of their dreams may be the cause, so these dreams are tried again one by one. An exception (Ctrl-C) stops the
    workers.
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


# Each of the three classes of workers is a context manager with these members, which `run` uses:
#     lost              exceptions of a future whose worker died
#     all_break         whether the death of one worker stops all others
#     width()           how many jobs to submit at the same time
#     submit(job)       start a job; returns a Future
#     renew()           make workers available again after one died
#     stop(running)     stop the jobs with these futures

class InProcess(Executor):
    """Workers: this process, which makes one dream at a time.

    on_step: as in `deepdream`.
    """
    lost, all_break = (), False

    def __init__(self, on_step: Callable | None = None):
        self.on_step = on_step

    def width(self) -> int:
        return 1

    def submit(self, job: Job) -> Future:
        future = Future()
        future.set_result(self.make(job))
        return future

    def make(self, job: Job, on_step: Callable | None = None) -> Result:
        """Run a job at once.

        job: the job.
        on_step: as in `deepdream`, for this job only.
        """
        return maker.make(job, on_step or self.on_step)

    def renew(self) -> None:
        pass

    def stop(self, running: Iterable[Future]) -> None:
        pass

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        maker.forget()


class Processes:
    """Workers: n processes on this machine."""
    lost, all_break = (BrokenProcessPool, CancelledError), True

    def __init__(self, n: int):
        self.n = n
        self.renew()

    def renew(self) -> None:
        import multiprocessing      # with spawn, because onnxruntime's threads do not survive a fork
        self.pool = ProcessPoolExecutor(self.n, multiprocessing.get_context("spawn"), _start_worker)

    def width(self) -> int:
        return self.n

    def submit(self, job: Job) -> Future:
        try:
            return self.pool.submit(make, job)
        except BrokenProcessPool:      # a worker died while it was idle
            self.renew()
            return self.pool.submit(make, job)

    def stop(self, running: Iterable[Future]) -> None:
        # only the processes of the pool, not all children of this one; a pool that is shut down no longer lists them
        processes = list((self.pool._processes or {}).values())
        self.pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.pool.shutdown(cancel_futures=True)


def _start_worker():
    """Set up a worker: it ignores Ctrl-C, which its parent handles, and ends if its parent dies."""
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
    """Workers: those of a running Dask cluster.

    address: of its scheduler, such as tcp://host:8786.

    The scheduler and the workers must be able to import this project (by PYTHONPATH), and the workers must have the
    nets that are specified as folders. If a worker dies, Dask itself tries its dream again several times
    (distributed.scheduler.allowed-failures). Raises DreamError if no scheduler answers.
    """
    all_break = False

    def __init__(self, address: str):
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

    def width(self) -> int:
        """Return twice the number of workers, so that none of them has to wait for its next job."""
        return 2 * max(1, len(self._ask(self.client.nthreads)))

    def submit(self, job: Job) -> Future:
        return self._ask(self.pool.submit, make, job)

    def _ask(self, function, *arguments):
        """Call a function of the client. Raises DreamError if the connection is lost."""
        try:
            return function(*arguments)
        except Exception as error:      # Dask has several types for a closed connection
            raise self._gone() from error

    def _gone(self):
        return DreamError(f"--dask {self.address}: lost the connection to the scheduler; repeat the command to go on")

    def renew(self) -> None:
        if self.client.status != "running":
            raise self._gone()

    def stop(self, running: Iterable[Future]) -> None:
        for future in running:
            future.cancel()
        self.pool.shutdown(wait=False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close(timeout=5)


def workers(n: int = 1, dask: str | None = None, on_step: Callable | None = None) -> InProcess | Processes | Cluster:
    """Return the workers for `run`, as a context manager.

    n: number of processes; 1: this process.
    dask: address of a Dask scheduler, whose workers are used instead.
    on_step: as in `deepdream`; called only if dreams are made in this process.
    """
    if dask:
        return Cluster(dask)
    return InProcess(on_step) if n == 1 else Processes(n)


def threads_each(threads: int | None, n: int) -> int | None:
    """Divide CPU threads among processes.

    threads: number of all threads; None: one for each core.
    n: number of processes.

    Returns the number for each process; None, for one process, leaves the number to onnxruntime.
    """
    return threads if n == 1 else max(1, (threads or _cores()) // n)


def _cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

"""The work folder of a film: its plan, the frames that are dreamt, and what the next ones start from.

    film.json           the settings of the dream and its plan
    frames/00000000.png the dreamt frames, without loss
    shots/0000.npz      the state of a shot that is not finished
    preview.jpg         the frame that was dreamt last
"""
from __future__ import annotations

import contextlib
import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from .. import pictures
from ..convert.errors import shown
from ..convert.files import write
from ..errors import DreamError
from ..pictures.reading import opened
from ..provenance import differences
from ..runtime.alone import alone
from .plan import Plan

FACTS, PREVIEW = "film.json", "preview.jpg"
SIDE = 960      # of the preview, in pixels


class Work:
    """A work folder.

    path: the folder; it need not exist.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    # ---- settings and plan

    def facts(self) -> dict | None:
        """Return the metadata of the film that is dreamt here; None in a new folder.

        Raises DreamError for a folder that holds something else, or whose facts are damaged.
        """
        values = self._read()
        return values and values["metadata"]

    def _read(self):
        path = self.path / FACTS
        if not path.is_file():
            if self.path.is_dir() and any(p.name not in ("frames", "shots") and not p.name.startswith(".")
                                          for p in self.path.iterdir()):
                raise DreamError(f"--work {self.path}: holds other files; give an empty folder")
            return None
        try:
            values = json.loads(path.read_bytes())
            if not isinstance(values["metadata"], dict):
                raise ValueError("metadata")
            Plan.from_json(values["plan"])
            return values
        except Exception as error:      # json, and what Plan.from_json raises, are of many types
            raise DreamError(f"{path}: is damaged ({shown(str(error) or type(error).__name__, 100)}); delete "
                             f"{self.path}") from None

    def resume(self, metadata: dict) -> Plan | None:
        """Return the plan of the film that was begun here; None if none was.

        Raises DreamError if it was begun with other settings.
        """
        values = self._read()
        if values is None:
            return None
        changed = differences(values["metadata"], metadata)
        if changed:
            raise DreamError(f"--work {self.path}: holds a film that was begun with another "
                             f"{', '.join(name.replace('_', ' ') for name in changed)}; give another folder, or "
                             "delete this one")
        return Plan.from_json(values["plan"])

    def begin(self, metadata: dict, plan: Plan) -> None:
        """Make the folder, and write the settings and the plan."""
        for folder in ("frames", "shots"):
            (self.path / folder).mkdir(parents=True, exist_ok=True)
        write(self.path / FACTS, json.dumps({"metadata": metadata, "plan": plan.to_json()}).encode())

    def plan(self) -> Plan:
        """Return the plan. Raises DreamError if there is none."""
        values = self._read()
        if values is None:
            raise DreamError(f"{self.path}: holds no film")
        return Plan.from_json(values["plan"])

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Make the folder, and lock it inside of the `with`. Raises DreamError if another process dreams there."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DreamError(f"--work {self.path}: cannot be made: {error.strerror}") from None
        try:
            with alone(self.path, "--work", "another film is being dreamt there; give another folder"):
                yield
        finally:
            with contextlib.suppress(OSError):      # it is not empty
                self.path.rmdir()

    def delete(self) -> None:
        """Delete what `Work` has written, but nothing else. `alone` deletes a folder that is empty then."""
        for name in ("frames", "shots"):
            shutil.rmtree(self.path / name, ignore_errors=True)
        for name in (FACTS, PREVIEW):
            (self.path / name).unlink(missing_ok=True)

    # ---- frames

    def frame_path(self, i: int) -> Path:
        """Return the path of a dreamt frame."""
        return self.path / "frames" / f"{i:08d}.png"

    def save_frame(self, i: int, picture: np.ndarray, alpha: np.ndarray | None) -> None:
        """Write a dreamt frame: uint8 (H, W, 3), and its alpha channel, uint8 (H, W), or None."""
        data = pictures.encode(picture, "png", alpha, compress_level=1)
        write(self.frame_path(i), data, sync=False)

    def frame(self, i: int) -> np.ndarray:
        """Return a dreamt frame, uint8 (H, W, 3), or (H, W, 4) with an alpha channel."""
        with opened(self.frame_path(i)) as image:
            return np.array(image)

    def count(self) -> int:
        """Return the number of dreamt frames."""
        return sum(path.suffix == ".png" and path.name[0] != "." for path in (self.path / "frames").iterdir())

    def forget_unsaved(self, plan: Plan) -> None:
        """Delete the frames that are to be dreamt again, since they were dreamt after the last state of their shot."""
        for shot in range(len(plan.shots)):
            for i in range(self.next_frame(shot, plan), plan.frames_of(shot).stop):
                self.frame_path(i).unlink(missing_ok=True)

    def show(self, picture: np.ndarray) -> None:
        """Rewrite the preview."""
        image = Image.fromarray(picture)
        image.thumbnail((SIDE, SIDE))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=85)
        write(self.path / PREVIEW, file.getvalue(), sync=False)

    # ---- the states of shots

    def save_state(self, shot: int, number: int, arrays: dict[str, np.ndarray], facts: dict) -> None:
        """Write the state of a shot.

        number: the number of its next frame; that after its last frame if it is finished.
        arrays: what the next frame depends on.
        facts: plain values that it depends on.
        """
        file = io.BytesIO()
        np.savez(file, number=number, facts=json.dumps(facts), **arrays)
        write(self._state_path(shot), file.getvalue())

    def state(self, shot: int) -> tuple[int, dict[str, np.ndarray], dict] | None:
        """Return what `save_state` wrote: the next frame's number, the arrays, and the facts; None without a state.

        Raises DreamError if it is damaged.
        """
        path = self._state_path(shot)
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            return int(arrays.pop("number")), arrays, json.loads(str(arrays.pop("facts")))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DreamError(f"{path}: is damaged ({shown(error, 100)}); delete it") from None

    def next_frame(self, shot: int, plan: Plan) -> int:
        """Return the number of the next frame of a shot to dream, without reading its arrays."""
        path = self._state_path(shot)
        if not path.is_file():
            return plan.shots[shot]
        try:
            with np.load(path, allow_pickle=False) as file:
                return int(file["number"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DreamError(f"{path}: is damaged ({shown(error, 100)}); delete it") from None

    def _state_path(self, shot):
        return self.path / "shots" / f"{shot:04d}.npz"

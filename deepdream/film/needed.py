"""The optional packages that films need, imported where they are used."""
from __future__ import annotations

from types import ModuleType

from ..errors import DreamError

INSTALL = 'pip install "deepdream[video]"'


def av() -> ModuleType:
    """Import PyAV, whose wheel contains FFmpeg's libraries. Raises DreamError where it is not installed."""
    try:
        import av
    except ImportError:
        raise DreamError(f"films need the package av: {INSTALL}, or pip install av") from None
    return av


def cv2() -> ModuleType:
    """Import OpenCV. Raises DreamError where it is not installed."""
    try:
        import cv2
    except ImportError:
        raise DreamError(f"--flow dis: needs the package opencv-python-headless: {INSTALL}, or pip install "
                         "opencv-python-headless; --flow none needs nothing, for a camera that stands still") from None
    return cv2

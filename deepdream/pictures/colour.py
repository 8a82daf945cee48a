"""Colour profiles (ICC): pictures of any colour space become sRGB, which the nets were trained on."""
from __future__ import annotations

import io

import numpy as np
from PIL import Image

SPACES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}      # colour space in a profile -> Pillow's mode
SAME = 2             # levels, 0 to 255: a profile that changes no colour by more is sRGB, of which many versions exist
GRID = 17            # levels of each channel that are compared for that


class ProfileError(ValueError):
    """Raised for a profile that cannot be used. The message says why."""


class Profile:
    """A colour profile from a picture file.

    data: the contents of the profile.
    mode: Pillow's mode of the pictures that it is for: 'L', 'RGB' or 'CMYK'.

    Raises ProfileError for a damaged profile, and for one of another colour space.
    """

    def __init__(self, data: bytes):
        from PIL import ImageCms
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
            space = str(profile.profile.xcolor_space).strip()
            if space not in SPACES:
                raise ProfileError(f"is for the colour space {space}")
            self.mode = SPACES[space]
            flags = ImageCms.Flags.NOOPTIMIZE if self.mode == "L" else ImageCms.Flags.HIGHRESPRECALC
            self._transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), self.mode, "RGB",
                                                      flags=flags)      # without them, dark greys are 6 levels off
        except ProfileError:
            raise
        except ImportError:
            raise ProfileError("cannot be read by this version of Pillow, which lacks LittleCMS") from None
        except Exception:      # Pillow raises OSError, PyCMSError, TypeError and others for damaged profiles
            raise ProfileError("is damaged") from None

    @property
    def is_srgb(self) -> bool:
        """Whether colours are already those of sRGB, so that a conversion would only round them."""
        if self.mode == "CMYK":
            return False
        levels = np.linspace(0, 255, GRID).round().astype(np.uint8)
        colours = np.arange(256, dtype=np.uint8)[None] if self.mode == "L" else \
            np.stack(np.meshgrid(levels, levels, levels), -1).reshape(GRID, -1, 3)
        sample = Image.fromarray(colours)
        change = np.int16(self.convert(sample)) - np.int16(sample.convert("RGB"))
        return int(np.abs(change).max()) <= SAME

    def convert(self, image: Image.Image) -> Image.Image:
        """Return a picture of the profile's mode as sRGB, in the mode 'RGB'."""
        from PIL import ImageCms
        return ImageCms.applyTransform(image, self._transform)

    def convert_grey(self, grey: np.ndarray) -> np.ndarray:
        """Convert grey values that are no whole numbers, such as those of 16-bit pictures.

        grey: (H, W), 0 to 255.

        Returns sRGB, (H, W, 3).
        """
        ramp = np.float64(self.convert(Image.fromarray(np.arange(256, dtype=np.uint8)[None])))[0]
        return np.dstack([np.interp(grey, np.arange(256), ramp[:, channel]) for channel in range(3)])


def profile_of(data: bytes | None, mode: str) -> Profile | None:
    """Return the profile to convert a picture with; None if there is none, or if it is sRGB.

    data: the contents of the profile, or None.
    mode: 'L', 'RGB' or 'CMYK', as the picture is stored.

    Raises ProfileError for a profile that cannot be used for this picture.
    """
    if not isinstance(data, bytes) or not data:
        return None
    profile = Profile(data)
    if profile.mode != mode:
        raise ProfileError(f"is for {profile.mode} pictures, and this one is {mode}")
    return None if profile.is_srgb else profile

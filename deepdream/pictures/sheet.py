"""Sheets, which combine several pictures with captions in one."""
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GROUND, BRIGHT, DIM = (18, 19, 23), (236, 233, 226), (150, 146, 138)
INSET = 0.36      # width of the source between the captions of two dreams, as a part of theirs


def side_by_side(images: Sequence[np.ndarray], captions: Sequence[str], note: str) -> np.ndarray:
    """Combine a source and two dreams in a sheet.

    Upright pictures are put in a row. Otherwise the two dreams are next to each other, and the source is small between
    their captions, so that the dreams are as large as a width allows.

    images: the source and the two dreams, uint8 (H, W, 3), of the same size.
    captions: a caption for each.
    note: a line of text below all of them.

    Returns the sheet, uint8 (height, width, 3).
    """
    h, w = images[0].shape[:2]
    if h >= w * 0.9:
        return grid(images, captions, note, 3)
    text = max(13, round(w / 32))
    gap, line = round(text * 0.9), round(text * 2.3)
    small = Image.fromarray(images[0])
    small.thumbnail((round(w * INSET), h), Image.Resampling.LANCZOS)
    middle = w + 1.5 * gap
    band = 2 * gap + h      # the top of the small source
    sheet = Image.new("RGB", (2 * w + 3 * gap, band + small.height + line + line), GROUND)
    draw = ImageDraw.Draw(sheet)
    for image, caption, x in zip(images[1:], captions[1:], (gap, 2 * gap + w)):
        sheet.paste(Image.fromarray(image), (x, gap))
        room = w - small.width // 2 - gap
        outer = x + room / 2 if x == gap else x + w - room / 2      # the middle of what the source leaves
        draw.text((outer, band + small.height / 2), caption, BRIGHT, _font(draw, caption, round(text * 1.2), room),
                  anchor="mm")
    sheet.paste(small, (round(middle - small.width / 2), band))
    draw.text((middle, band + small.height + line / 2), captions[0], BRIGHT,
              _font(draw, captions[0], round(text * 0.8), small.width), anchor="mm")
    draw.text((middle, sheet.height - line * 0.62), note, DIM,
              _font(draw, note, round(text * 0.8), sheet.width - 2 * gap), anchor="mm")
    return np.asarray(sheet)


def grid(images: Sequence[np.ndarray], captions: Sequence[str], note: str, columns: int) -> np.ndarray:
    """Combine pictures in a sheet of rows and columns.

    images: uint8 (h, w, 3), of the same size.
    captions: a caption for each.
    note: a line of text below all of them.
    columns: the maximum number of columns.

    Returns the sheet, uint8 (height, width, 3).
    """
    h, w = images[0].shape[:2]
    text = max(13, round(max(h, w) / 26))
    gap, line = round(text * 0.7), round(text * 2.1)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (w + gap) + gap, rows * (h + gap + line) + gap + line), GROUND)
    draw = ImageDraw.Draw(sheet)
    for i, (image, caption) in enumerate(zip(images, captions)):
        x, y = gap + i % columns * (w + gap), gap + i // columns * (h + gap + line)
        sheet.paste(Image.fromarray(image), (x, y))
        draw.text((x + w / 2, y + h + line / 2), caption, BRIGHT, _font(draw, caption, text, w), anchor="mm")
    draw.text((sheet.width / 2, sheet.height - line * 0.7), note, DIM,
              _font(draw, note, max(11, round(text * 0.8)), sheet.width - 2 * gap), anchor="mm")
    return np.asarray(sheet)


def enlarged(image: np.ndarray, side: int) -> np.ndarray:
    """Enlarge a small picture by a whole factor, so that its pixels become visible squares.

    image: (h, w, 3).
    side: the minimum height of the result, in pixels.
    """
    factor = max(1, -(-side // image.shape[0]))
    return image.repeat(factor, 0).repeat(factor, 1)


def _font(draw, text, size, width):
    """Return Pillow's default font, small enough for the text to fit into the width."""
    while size > 6 and draw.textlength(text, font=ImageFont.load_default(size)) > width:
        size -= 1
    return ImageFont.load_default(size)

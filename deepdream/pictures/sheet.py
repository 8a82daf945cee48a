"""Sheets, which combine several pictures with captions in one."""
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GROUND, BRIGHT, DIM = (18, 19, 23), (236, 233, 226), (150, 146, 138)


def side_by_side(images: Sequence[np.ndarray], captions: Sequence[str], note: str) -> np.ndarray:
    """Combine a source and two dreams in a sheet.

    Upright pictures are put in a row. Otherwise the source is above the two dreams, so that the sheet does not become
    too wide.

    images: the source and the two dreams, uint8 (H, W, 3), of the same size.
    captions: a caption for each.
    note: a line of text below all of them.

    Returns the sheet, uint8 (height, width, 3).
    """
    h, w = images[0].shape[:2]
    text = max(13, round(max(h, w) / 32))
    gap, line = round(text * 0.9), round(text * 2.3)
    in_row = h >= w * 0.9
    columns = 3 if in_row else 2
    width = columns * w + (columns + 1) * gap
    # the source is above the middle of the two dreams
    corners = [(gap + i * (w + gap), gap) for i in range(3)] if in_row else \
        [((width - w) // 2, gap), (gap, gap + h + line), (2 * gap + w, gap + h + line)]
    height = corners[-1][1] + h + line + line
    sheet = Image.new("RGB", (width, height), GROUND)
    draw = ImageDraw.Draw(sheet)
    for image, (x, y), caption in zip(images, corners, captions):
        sheet.paste(Image.fromarray(image), (x, y))
        font = _font(draw, caption, text, w)
        draw.text((x + w / 2, y + h + line / 2), caption, BRIGHT, font, anchor="mm")
    font = _font(draw, note, round(text * 0.8), width - 2 * gap)
    draw.text((width / 2, height - line * 0.62), note, DIM, font, anchor="mm")
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

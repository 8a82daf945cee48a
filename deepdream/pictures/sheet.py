"""Sheets: several pictures with captions, as one picture to share."""
import numpy as np
from PIL import Image, ImageDraw, ImageFont

GROUND, BRIGHT, DIM = (18, 19, 23), (236, 233, 226), (150, 146, 138)


def side_by_side(images, captions, note):
    """Three pictures of one size with captions, (H, W, 3) uint8: in a row if they are upright, else the source above
    the two dreams, so that the sheet is neither a strip nor a tower."""
    h, w = images[0].shape[:2]
    text = max(13, round(max(h, w) / 32))
    gap, line = round(text * 0.9), round(text * 2.3)
    in_row = h >= w * 0.9
    columns = 3 if in_row else 2
    wide = columns * w + (columns + 1) * gap
    # the source is over the middle of the two dreams
    places = [(gap + i * (w + gap), gap) for i in range(3)] if in_row else \
        [((wide - w) // 2, gap), (gap, gap + h + line), (2 * gap + w, gap + h + line)]
    high = places[-1][1] + h + line + line
    sheet = Image.new("RGB", (wide, high), GROUND)
    draw = ImageDraw.Draw(sheet)
    for image, (x, y), caption in zip(images, places, captions):
        sheet.paste(Image.fromarray(image), (x, y))
        font = _font(draw, caption, text, w)
        draw.text((x + w / 2, y + h + line / 2), caption, BRIGHT, font, anchor="mm")
    font = _font(draw, note, round(text * 0.8), wide - 2 * gap)
    draw.text((wide / 2, high - line * 0.62), note, DIM, font, anchor="mm")
    return np.asarray(sheet)


def grid(images, captions, note, columns):
    """Pictures (h, w, 3) uint8 of one size in rows of so many, each with a caption, and a note under all."""
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


def enlarged(image, side):
    """A small picture by whole factors, so that its pixels can be seen: (h, w, 3) to at least `side` pixels high."""
    factor = max(1, -(-side // image.shape[0]))
    return image.repeat(factor, 0).repeat(factor, 1)


def _font(draw, text, size, width):
    """The font that Pillow brings along, small enough for the text to fit into a width."""
    while size > 6 and draw.textlength(text, font=ImageFont.load_default(size)) > width:
        size -= 1
    return ImageFont.load_default(size)

"""Draw img/number.jpg, the picture that chapter 11 of the notebook reads.

Nobody wrote it: ten digits are drawn with a round pen through points set by hand
(other points than those of chapter 4), on ruled paper, in uneven light, slightly
turned, grainy, and saved with the losses of a JPEG.
`python tests/draw_number.py` makes it anew.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

# For each digit its strokes: points x,y in percent of the digit's height.
HAND = {
    "1": "8,34 22,20 36,2 33,48 29,101",
    "6": "52,2 25,28 9,66 20,95 46,97 59,74 43,55 20,62 11,76",
    "0": "42,3 14,18 3,55 17,92 43,98 66,66 62,22 38,2 28,9",
    "4": "28,4 19,30 6,58 36,57 68,52 / 55,22 50,60 46,106",
    "7": "4,12 30,8 63,5 47,44 27,103 / 20,55 58,50",
    "3": "8,14 32,0 55,15 46,38 24,46 52,55 62,80 36,101 4,90",
    "9": "56,18 34,3 9,20 18,46 44,42 58,14 56,58 44,104",
    "2": "5,24 24,3 50,13 47,44 22,79 1,97 34,93 70,99",
    "8": "57,16 34,1 13,19 31,44 57,68 46,98 15,95 7,72 36,47 60,24 50,8",
    "5": "16,4 10,44 38,38 60,62 46,94 3,98 / 18,5 60,1",
}
HAND = {
    digit: [
        [tuple(map(int, point.split(","))) for point in stroke.split()]
        for stroke in strokes.split(" / ")
    ]
    for digit, strokes in HAND.items()
}
LINES, SIZE, PEN = ("16047", "39285"), (1400, 800), 13


def curve(points: list[tuple[int, int]]) -> np.ndarray:
    """Points (K, 2) of a Catmull-Rom curve through `points`."""
    p = np.array([points[0], *points, points[-1]], float)
    t = np.linspace(0, 1, 24)[:, None]
    pieces = [
        0.5
        * (
            2 * p[i]
            + (p[i + 1] - p[i - 1]) * t
            + (2 * p[i - 1] - 5 * p[i] + 4 * p[i + 1] - p[i + 2]) * t**2
            + (3 * p[i] - p[i - 1] - 3 * p[i + 1] + p[i + 2]) * t**3
        )
        for i in range(1, len(p) - 2)
    ]
    return np.concatenate(pieces)


def main() -> None:
    """Draw the picture and write it."""
    random = np.random.default_rng(1998)
    paper = Image.new("RGB", SIZE, (236, 232, 222))
    draw = ImageDraw.Draw(paper)
    for y in range(60, SIZE[1], 105):
        draw.line([(0, y), (SIZE[0], y)], fill=(176, 196, 220), width=3)
    for row, line in enumerate(LINES):
        x = 130.0
        for digit in line:
            height = random.uniform(170, 225)
            top = 110 + 330 * row + random.uniform(-18, 18)
            for stroke in HAND[digit]:
                for px, py in curve(stroke) * height / 100 + (x, top):
                    r = PEN / 2 * random.uniform(0.85, 1.05)
                    draw.ellipse([px - r, py - r, px + r, py + r], fill=(38, 44, 92))
            x += height * 0.7 + random.uniform(45, 120)
    paper = paper.filter(ImageFilter.GaussianBlur(1.4))
    paper = paper.rotate(-1.2, Image.Resampling.BICUBIC, fillcolor=(236, 232, 222))
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    light = 1.02 - 0.35 * (x / SIZE[0]) ** 1.5 - 0.18 * (y / SIZE[1])
    pixels = np.asarray(paper) * light[..., None]
    pixels = pixels + random.normal(0, 5, pixels.shape)
    photo, jpeg = Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), io.BytesIO()
    photo.save(jpeg, "JPEG", quality=70)
    target = Path(__file__).parent.parent / "img" / "number.jpg"
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(jpeg.getvalue())


if __name__ == "__main__":
    main()

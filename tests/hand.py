"""Digits drawn by hand-set points, for the pad's tests: not those of chapter 6."""

import numpy as np

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

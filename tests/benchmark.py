"""Measure what README and notebook claim: python tests/benchmark.py [--help]

Without options: seconds an epoch of the usual loop and of the notebook's, in turns.
MNIST is looked for as in the notebook (MNIST_ROOT, download, sample).
"""

import argparse
import csv
import os
import statistics
import tempfile
import time
from pathlib import Path

import notebook
import numpy as np
import torch
from PIL import Image
from torchvision import transforms

ROUNDS = 3
THREADS = torch.get_num_threads()  # PyTorch's own choice

nb = notebook.load()


def usual_epoch(images, threads: int) -> None:
    """The loop that everybody starts from."""
    torch.set_num_threads(threads)
    model = nb.DigitClassifier()
    optimizer = torch.optim.Adam(model.parameters())
    for inputs, labels in nb.DataLoader(images, batch_size=64, shuffle=True):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()


def our_epoch(training, warp=None) -> None:
    """The notebook's loop on the same images."""
    torch.set_num_threads(1)  # as chapter 4 does
    model = nb.DigitClassifier()
    optimizer = torch.optim.Adam(model.parameters(), lr=nb.LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, 1)
    loader = nb.make_loader(training, nb.BATCH_SIZE, True)
    batches = ((warp(i, 0.0) if warp else i, labels) for i, labels in loader)
    nb.train_epoch(model, batches, schedule)


def compare_epochs(mnist, training) -> None:
    """Each loop once a round, in turns; medians, ratios to the faster usual one."""
    steps = [transforms.ToTensor(), transforms.Normalize((nb.MEAN,), (nb.STD,))]
    mnist.transform = transforms.Compose(steps)
    loops = {
        f"usual loop, batches of 64, threads: {THREADS}": lambda: usual_epoch(
            mnist, THREADS
        ),
        "usual loop, one thread": lambda: usual_epoch(mnist, 1),  # on a busy machine
        f"ours, batches of {nb.BATCH_SIZE}": lambda: our_epoch(training),
        "the same with warps": lambda: our_epoch(training, nb.fading_warp),
    }
    seconds = {name: [] for name in loops}
    our_epoch(training)  # the first one also warms up
    for name in [*loops] * ROUNDS:
        start = time.perf_counter()
        loops[name]()
        seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    usual = min(median for name, median in medians.items() if "usual" in name)
    print("\n| an epoch | seconds, median | usual / this |\n|---|---:|---:|")
    for name, median in medians.items():
        print(f"| {name} | {median:.2f} | {usual / median:.1f} |")


def draw_practice(training):
    """Training digits and what chapter 6 draws beside them, by the same statements."""
    names = {**vars(nb), "training": training}
    for cell in notebook.read((notebook.ROOT / notebook.NOTEBOOK).read_bytes())[
        "cells"
    ]:
        if "practice = join(" in cell["source"]:
            head = cell["source"].split("\n\n")[0]  # below it is the figure
            exec(head, names)
    return names["practice"]


def many_seeds(everything, testing, count: int, rate: float) -> None:
    """The warped network as in chapter 8, but for the seed; then mean and spread."""
    print("\n| seed | validation | test | test loss | sure of | seconds |")
    print("|---:|---:|---:|---:|---:|---:|")
    rows = []
    for seed in range(nb.SEED, nb.SEED + count):
        nb.SEED = seed
        training, validation = nb.split(everything, nb.VALIDATION_SHARE, seed)
        data = draw_practice(training), validation, nb.WARPED_EPOCHS
        options = {
            "warp": nb.fading_warp,
            "learning_rate": rate,
            "name": f"seed {seed}",
        }
        model, history = nb.train(nb.DigitClassifier, *data, **options)
        logits, labels = nb.predict(model, nb.make_loader(testing, 1000))
        loss, accuracy = nb.score(logits, labels)
        sure = (nb.answers_of(logits, labels).confidence >= nb.SURE).mean()
        last = history.iloc[-1]
        rows.append((100 * accuracy, loss, 100 * sure, last.seconds))
        row = f"| {seed} | {last.valid_accuracy:.2%} | {accuracy:.2%} | {loss:.4f} "
        print(f"{row}| {sure:.1%} | {last.seconds:.0f} |", flush=True)
    tests, losses, sure, seconds = zip(*rows)
    spread = statistics.stdev(tests) if count > 1 else 0
    print(f"\ntest accuracy: mean {statistics.mean(tests):.3f} %, ", end="")
    print(f"standard deviation {spread:.3f}, lowest {min(tests):.2f} %")
    print(f"means: test loss {statistics.mean(losses):.4f}, ", end="")
    print(f"sure of {statistics.mean(sure):.1f} % of the test digits, ", end="")
    print(f"{statistics.mean(seconds):.0f} s")


# --- handwriting ---------------------------------------------------------------------


def read(picture, model) -> tuple[str, bool]:
    """The digits read, and whether all are sure; none where the reader refuses."""
    try:
        readings = nb.read_digits(picture, model)
    except ValueError:
        return "", False
    return "".join(str(r.digit) for r in readings), all(r.sure for r in readings)


def edits(one: str, other: str) -> int:
    """Levenshtein's distance: insertions, deletions and replacements."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        corner, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (a != b))
    return row[-1]


def handwriting(folder: Path, model) -> None:
    """A line for each set of the folder's labels.csv: columns file, label, set.

    A label is one digit or all of a page, in reading order.
    """
    sets = {}
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            sets.setdefault(row["set"], []).append((row["file"], row["label"]))
    print("\n| set | pictures | all right | digits right | wrong though sure |")
    print("|---|---:|---:|---:|---:|")
    for name, items in sets.items():
        right = wrong = lost = 0
        for file, label in items:
            found, sure = read(folder / file, model)
            right += found == label
            wrong += found != label and sure
            lost += min(edits(found, label), len(label))
        digits = 1 - lost / sum(len(label) for _, label in items)
        row = f"| {name} | {len(items):,} | {right / len(items):.1%} | {digits:.1%} "
        print(f"{row}| {wrong} |", flush=True)


def compose(images, size: tuple[int, int], columns: int) -> Image.Image:
    """Digits (N, 28, 28) as dark ink on a light page, in rows."""
    page, step = Image.new("L", size, 235), size[0] // (columns + 1)
    for i, image in enumerate(images.numpy()):
        ink = Image.fromarray(image).resize((step - 10,) * 2, Image.Resampling.BICUBIC)
        place = (i % columns * step + step // 2, i // columns * step + step // 2)
        page.paste(40, place, ink)
    return page


def time_reading(images, model) -> None:
    """Seconds of read_digits, opening the file included: the median of some rounds."""
    page = compose(images[:100], (1200, 1600), 10)
    pictures = {
        "a page with 100 digits": page,
        "the same in 12 megapixels": page.resize((3000, 4000)),
        "one digit": compose(images[:1], (300, 300), 1),
    }
    print("\n| picture | digits found | seconds |\n|---|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for name, picture in pictures.items():
            picture.save(path := Path(folder, "photo.jpg"))
            seconds = []
            for _ in range(ROUNDS):
                start = time.perf_counter()
                found, _ = read(path, model)
                seconds.append(time.perf_counter() - start)
            print(f"| {name} | {len(found)} | {statistics.median(seconds):.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, metavar="N", help="train with N seeds")
    rate = {"type": float, "metavar": "RATE", "default": nb.LEARNING_RATE}
    parser.add_argument("--rate", help="learning rate, as chapter 7 chooses it", **rate)
    parser.add_argument("--handwriting", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    torch.set_num_threads(1)  # as chapter 4 does
    print(f"torch {torch.__version__}, NumPy {np.__version__}")
    if options.handwriting:
        model = nb.load_model(notebook.ROOT / "model.pth")
        handwriting(options.handwriting.absolute(), model)
        sample = nb.datasets.MNIST(notebook.ROOT / "data" / "sample", False)
        return time_reading(sample.data[::9], model)  # the sample is sorted
    root = Path(nb.MNIST_ROOT).expanduser().absolute()
    os.chdir(notebook.ROOT)  # where data/sample is
    mnist = nb.load_mnist(root if "MNIST_ROOT" in os.environ else nb.MNIST_ROOT)
    training, testing = (
        nb.TensorDataset(nb.normalise(part.data), part.targets) for part in mnist
    )
    if options.seeds:
        return many_seeds(training, testing, options.seeds, options.rate)
    return compare_epochs(mnist[0], training)


if __name__ == "__main__":
    main()

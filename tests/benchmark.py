"""Measure what README and notebook claim: python tests/benchmark.py [--help]

Without options: seconds an epoch of the usual loop and of the notebook's, in turns.
MNIST is looked for as in the notebook (MNIST_ROOT, download, sample).
"""

import argparse
import csv
import io
import statistics
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


def usual_epoch(root: Path) -> None:
    """The loop that everybody starts from, with as many threads as PyTorch takes."""
    torch.set_num_threads(THREADS)
    steps = [transforms.ToTensor(), transforms.Normalize((nb.MEAN,), (nb.STD,))]
    images = nb.datasets.MNIST(root, transform=transforms.Compose(steps))
    model = nb.DigitClassifier()
    optimizer = torch.optim.Adam(model.parameters())
    for inputs, labels in nb.DataLoader(images, batch_size=64, shuffle=True):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()


def our_epoch(training, warp=None) -> None:
    """The notebook's loop on the same images."""
    torch.set_num_threads(1)  # as chapter 1 does
    model = nb.DigitClassifier()
    optimizer = torch.optim.Adam(model.parameters(), lr=nb.LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, 1)
    loader = nb.make_loader(training, seed=nb.SEED)
    nb.train_epoch(model, loader, optimizer, schedule, warp)


def compare_epochs(training, root: Path) -> None:
    """Each loop once a round, in turns; medians and ratios."""
    loops = {
        "usual loop, batches of 64": lambda: usual_epoch(root),
        f"ours, batches of {nb.BATCH_SIZE}": lambda: our_epoch(training),
        "the same with warps": lambda: our_epoch(training, nb.RandomWarp(nb.SEED)),
    }
    seconds = {name: [] for name in loops}
    our_epoch(training)  # the first one also loads and warms up
    for name in [*loops] * ROUNDS:
        start = time.perf_counter()
        loops[name]()
        seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    usual = medians["usual loop, batches of 64"]
    print("\n| an epoch | seconds, median | usual / this |\n|---|---:|---:|")
    for name, median in medians.items():
        print(f"| {name} | {median:.2f} | {usual / median:.1f} |")


def many_seeds(everything, testing, count: int) -> None:
    """The warped network as in chapter 7, but for the seed; then mean and spread."""
    print("\n| seed | validation | test | test loss | seconds |")
    print("|---:|---:|---:|---:|---:|")
    found = []
    for seed in range(nb.SEED, nb.SEED + count):
        training, validation = nb.split(everything, nb.VALIDATION_SHARE, seed)
        drawn = nb.draw_digits(round(nb.DRAWN * len(training) / 55_000), seed)
        pairs = zip(training[:], drawn[:], strict=True)
        loader = nb.make_loader(nb.Digits(*map(torch.cat, pairs)), seed=seed)
        torch.manual_seed(seed)
        model, warp = nb.DigitClassifier(), nb.RandomWarp(seed)
        valid_loader = nb.make_loader(validation, batch_size=1000)
        last = nb.fit(model, loader, valid_loader, nb.WARPED_EPOCHS, warp=warp)[-1]
        loss, test = nb.score(*nb.predict(model, nb.make_loader(testing, 1000)))
        found.append(100 * test)
        row = f"| {seed} | {last.valid_accuracy:.2%} | {test:.2%} | {loss:.4f} "
        print(f"{row}| {last.seconds:.0f} |", flush=True)
    spread = statistics.stdev(found) if count > 1 else 0
    print(f"\ntest accuracy: mean {statistics.mean(found):.3f} %, ", end="")
    print(f"standard deviation {spread:.3f}, minimum {min(found):.2f} %")


def answers(picture, model) -> list[int]:
    """The digits read, none where the reader refuses."""
    try:
        return [reading.digit for reading in nb.read_digits(picture, model)]
    except ValueError:
        return []


def handwriting(folder: Path) -> None:
    """The single digits of each set, then the time a page takes.

    The folder's labels.csv has the columns file, label and set.
    """
    model, sets = nb.load_model(notebook.ROOT / "model.pth"), {}
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            item = (folder / row["file"], int(row["label"]))
            sets.setdefault(row["set"], []).append(item)
    print("\n| set | pictures | read right |\n|---|---:|---:|")
    for name, items in sets.items():
        right = np.mean([answers(picture, model) == [n] for picture, n in items])
        print(f"| {name} | {len(items):,} | {right:.2%} |", flush=True)

    readings = nb.read_digits(notebook.ROOT / "img" / "number.jpg", model)
    page = Image.new("L", (1200, 1600), 235)
    for i in range(100):
        digit = readings[i % len(readings)].image.numpy()
        ink = Image.fromarray(digit).resize((100, 100), Image.Resampling.BICUBIC)
        page.paste(40, (i % 10 * 110 + 60, i // 10 * 150 + 60), ink)
    photo = io.BytesIO()
    page.resize((3000, 4000)).save(photo, "JPEG")
    print("\n| picture | digits found | seconds |\n|---|---:|---:|")
    for name, picture in (("page", page), ("12 megapixels", Image.open(photo))):
        start = time.perf_counter()
        found = len(answers(picture, model))
        print(f"| {name} | {found} | {time.perf_counter() - start:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, metavar="N", help="train with N seeds")
    parser.add_argument("--handwriting", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    torch.set_num_threads(1)  # as chapter 1 does
    print(f"torch {torch.__version__}")
    if options.handwriting:
        return handwriting(options.handwriting)
    root, sample = notebook.ROOT / nb.MNIST_ROOT, notebook.ROOT / "data" / "sample"
    mnist = nb.load_mnist(root, sample)
    training = nb.Digits(notebook.inputs(nb, mnist.train_images), mnist.train_labels)
    testing = nb.Digits(notebook.inputs(nb, mnist.test_images), mnist.test_labels)
    if options.seeds:
        return many_seeds(training, testing, options.seeds)
    return compare_epochs(training, root if nb.read_mnist(root) else sample)


if __name__ == "__main__":
    main()

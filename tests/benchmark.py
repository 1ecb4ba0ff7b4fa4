"""Measure what README and notebook claim: python tests/benchmark.py [--help]

Without options: seconds an epoch of the usual loop and of the notebook's, in turns,
and the seconds until the validation accuracy reaches 98 %. MNIST is looked for as in
the notebook (MNIST_ROOT, mirrors, sample).
"""

import argparse
import contextlib
import csv
import io
import os
import shutil
import statistics
import sys
import tempfile
import time
import types
from pathlib import Path

import notebook
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset
from torchvision import transforms

ROUNDS = 3
TARGET = 0.98
SCRIPT_PICTURES = 1000  # a set, for README's script
DIRECTIONS = [(-1, 0), (1, 0), (0, -1), (0, 1)]  # diagonally it would be further

nb = notebook.load()


def data() -> tuple:
    """All training images, and the test images, as the notebook's `Part`s."""
    root, sample = notebook.ROOT / nb.MNIST_ROOT, notebook.ROOT / "data" / "sample"
    mnist = nb.load_mnist(root, sample)
    return (
        nb.Part(notebook.inputs(nb, mnist.train_images), mnist.train_labels),
        nb.Part(notebook.inputs(nb, mnist.test_images), mnist.test_labels),
        root if mnist.kind == "full" or not nb.damaged(root, "sample") else sample,
    )


# --- seconds an epoch ------------------------------------------------------------


def usual_epoch(root, share: float) -> float:
    """Seconds for one epoch of the loop that everybody starts from.

    With a share below 1 only that share of the images is used, and the seconds are
    scaled up.
    """
    steps = [transforms.ToTensor(), transforms.Normalize((nb.MEAN,), (nb.STD,))]
    images = nb.datasets.MNIST(root, train=True, transform=transforms.Compose(steps))
    images = Subset(images, range(round(share * len(images))))
    loader = DataLoader(images, batch_size=64, shuffle=True)
    model = nb.DigitClassifier()
    optimizer = torch.optim.Adam(model.parameters())
    start = time.perf_counter()
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
    return (time.perf_counter() - start) / share


def our_epoch(part, warp) -> float:
    """Seconds for one epoch of the notebook's loop on the same images."""
    loader = nb.make_loader(part, seed=nb.SEED)
    model = nb.DigitClassifier()
    optimizer = torch.optim.Adam(model.parameters(), lr=nb.LEARNING_RATE, fused=True)
    schedule = nb.one_cycle(optimizer, nb.LEARNING_RATE, len(loader) + 1)
    start = time.perf_counter()
    nb.train_epoch(model, loader, optimizer, schedule, warp)
    return time.perf_counter() - start


def compare_epochs(training, root, share: float) -> None:
    """Each loop once a round, in turns; medians and ratios."""
    loops = {
        "usual loop, batches of 64": lambda: usual_epoch(root, share),
        f"ours, batches of {nb.BATCH_SIZE}": lambda: our_epoch(training, None),
        f"ours, batches of {nb.BATCH_SIZE}, warps": lambda: our_epoch(
            training, nb.RandomWarp(nb.SEED)
        ),
    }
    our_epoch(training, None)  # the first one also loads and warms up
    seconds = {name: [] for name in loops}
    for _ in range(ROUNDS):
        for name, loop in loops.items():
            seconds[name].append(loop())
    usual = statistics.median(seconds["usual loop, batches of 64"])
    print(f"\n| an epoch of {len(training.labels):,} images | rounds, s ", end="")
    print("| median, s | usual / this |\n|---|---|---:|---:|")
    for name, values in seconds.items():
        rounds = ", ".join(f"{value:.2f}" for value in values)
        median = statistics.median(values)
        print(f"| {name} | {rounds} | {median:.2f} | {usual / median:.1f} |")
    if share < 1:
        print(f"The usual loop ran on {share:.0%} of the images, its time scaled up.")


# --- training ----------------------------------------------------------------------


def train(training, seed: int, epochs: int, warp) -> tuple:
    """A network trained as in chapter 7, but for the seed, and its history."""
    learn, check = nb.split(training, nb.VALIDATION_SHARE, seed)
    torch.manual_seed(seed)
    model = nb.DigitClassifier()
    if warp is not None:  # chapter 4: the digits drawn by code join in
        drawn = nb.draw_digits(round(nb.DRAWN * len(learn.labels) / 55_000), seed)
        learn = nb.Part(*(torch.cat(pair) for pair in zip(learn, drawn, strict=True)))
    loader = nb.make_loader(learn, seed=seed)
    valid_loader = nb.make_loader(check, batch_size=1000)
    return model, nb.fit(model, loader, valid_loader, epochs, warp=warp, live=False)


def time_to_target(training) -> None:
    """Seconds until the validation accuracy of a short run reaches TARGET.

    Warps at half strength, which chapter 6 of the notebook found to be good for few
    epochs.
    """
    warp = nb.RandomWarp(nb.SEED, 0.5)
    _, history = train(training, nb.SEED, nb.LONG_TRIAL_EPOCHS, warp)
    for number, epoch in enumerate(history, 1):
        if epoch.valid.accuracy >= TARGET:
            told = f"after {epoch.seconds:.1f} s (epoch {number} of {len(history)})"
            break
    else:
        told = f"not within {len(history)} epochs, {history[-1].seconds:.1f} s"
    print(f"\n{TARGET:.0%} validation accuracy: {told}")


def many_seeds(training, testing, count: int, epochs: int) -> None:
    """The warped network with several seeds: each, then mean and spread."""
    test_loader = nb.make_loader(testing, batch_size=1000)
    print(f"\n{epochs} epochs\n\n| seed | validation | test | test loss | seconds |")
    print("|---:|---:|---:|---:|---:|", flush=True)
    found = []
    for seed in range(nb.SEED, nb.SEED + count):
        model, history = train(training, seed, epochs, nb.RandomWarp(seed))
        test = nb.score(*nb.predict(model, test_loader))
        found.append(100 * test.accuracy)
        row = f"| {seed} | {history[-1].valid.accuracy:.2%} | {test.accuracy:.2%} | "
        print(f"{row}{test.loss:.4f} | {history[-1].seconds:.0f} |", flush=True)
    spread = statistics.stdev(found) if count > 1 else 0
    print(f"\ntest accuracy: mean {statistics.mean(found):.3f} %, ", end="")
    print(f"standard deviation {spread:.3f}, minimum {min(found):.2f} %")


# --- shifted digits ------------------------------------------------------------------


def shifted(inputs, down: int, right: int):
    """Inputs (N, 1, 28, 28) moved by whole pixels; paper comes in from the rim."""
    padded = torch.nn.functional.pad(inputs, (4, 4, 4, 4), value=-nb.MEAN / nb.STD)
    return padded[:, :, 4 - down : 32 - down, 4 - right : 32 - right]


def shift_table(testing) -> None:
    """Test accuracy of the committed model.pth on digits off centre."""
    model = nb.load_model(notebook.ROOT / "model.pth")
    print("\n| shifted by, pixels | test accuracy, mean of 4 directions |\n|---:|---:|")
    for pixels in range(5):
        accuracies = []
        for down, right in DIRECTIONS if pixels else [(0, 0)]:
            inputs = shifted(testing.inputs, pixels * down, pixels * right)
            moved = nb.Part(inputs.contiguous(), testing.labels)
            logits, labels = nb.predict(model, nb.make_loader(moved, batch_size=1000))
            accuracies.append(nb.score(logits, labels).accuracy)
        print(f"| {pixels} | {statistics.mean(accuracies):.2%} |", flush=True)


# --- handwriting ---------------------------------------------------------------------


def pictures(folder: Path) -> dict[str, list]:
    """For each set of a folder with a labels.csv its pictures and labels.

    Columns file, label and set are used. An .npz with `images` and `labels` is a set
    of its own, each image (bright on dark) enlarged six times.
    """
    found = {}
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            item = (Image.open(folder / row["file"]), int(row["label"]))
            found.setdefault(row["set"], []).append(item)
    for path in sorted(folder.glob("*.npz")):
        arrays = np.load(path)
        found[path.stem] = [
            (Image.fromarray(image).resize((96, 96), Image.Resampling.BICUBIC), label)
            for image, label in zip(arrays["images"], arrays["labels"], strict=True)
        ]
    return found


def answers(picture, model) -> list[int]:
    """The digits read, none where the reader refuses."""
    try:
        return [reading.digit for reading in nb.read_digits(picture, model)]
    except ValueError:
        return []


def script_answers(picture: Image.Image, code: types.CodeType, folder: Path) -> list:
    """The digits that README's script prints; `folder` holds a model.pth."""
    if picture.mode == "F":
        picture = picture.convert("L")
    picture.save(folder / "picture.png")
    sys.argv = ["read_digits.py", str(folder / "picture.png")]
    told, here = io.StringIO(), Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(told):
            exec(code, {"__name__": "__main__"})
    except (SystemExit, ValueError, OSError):
        return []
    finally:
        os.chdir(here)
        sys.tracebacklimit = 1000  # the script sets it to 0
    return [int(line.split()[0]) for line in told.getvalue().splitlines()]


def handwriting_table(sets: dict[str, list], model) -> None:
    """A row a set: exactly one digit found, and the right one.

    README's short script is slower: it reads about SCRIPT_PICTURES of each set.
    """
    code = compile(notebook.readme_scripts()[0], "read_digits.py", "exec")
    print("\n| set | pictures | one digit found | and the right one | by the script |")
    print("|---|---:|---:|---:|---:|")
    for name, items in sets.items():
        read = [(answers(picture, model), label) for picture, label in items]
        one = sum(len(found) == 1 for found, _ in read) / len(read)
        right = sum(found == [label] for found, label in read) / len(read)
        some = items[:: max(1, len(items) // SCRIPT_PICTURES)]
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(notebook.ROOT / "model.pth", folder)
            script = sum(
                script_answers(picture, code, Path(folder)) == [label]
                for picture, label in some
            )
        row = f"| {name} | {len(read):,} | {one:.1%} | {right:.1%} "
        print(f"{row}| {script / len(some):.1%} |", flush=True)


def compose(items: list, random: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    """A number of three to eight digits on paper (uint8, H x W), and its digits.

    Each digit's ink is cut from its picture; size, gap, slant, height on the line and
    darkness vary, and so do the paper's light and grain and whether it is ruled.
    """
    count = random.integers(3, 9)
    height = int(random.integers(60, 140))
    sheet = np.zeros((height * 3, height * (count + 2) * 2), np.float32)
    digits, x = [], height
    for index in random.integers(0, len(items), count):
        picture, label = items[index]
        parts = nb.find_digits(nb.find_ink(nb.load_grey(picture)[0]))
        if len(parts) != 1:
            continue  # a number is composed of digits that can be cut out
        ink = nb.crop(parts[0][1])
        tall = height * random.uniform(0.8, 1.2)
        scale = min(tall / ink.shape[0], 1.2 * height / ink.shape[1])
        ink = nb.resize(ink, (ink.shape[1] * scale, ink.shape[0] * scale), 3).clip(0, 1)
        slant = random.uniform(-0.15, 0.15)
        extra = int(abs(slant) * ink.shape[0]) + 1
        slanted = Image.fromarray(np.pad(ink, ((0, 0), (extra, extra)))).transform(
            (ink.shape[1] + 2 * extra, ink.shape[0]),
            Image.Transform.AFFINE,
            (1, slant, -slant * ink.shape[0] / 2, 0, 1, 0),
            Image.Resampling.BILINEAR,
        )
        ink = nb.crop(np.where(np.asarray(slanted) > 0.02, slanted, 0))
        y = height + int(random.uniform(-0.1, 0.1) * height)
        ink = ink[: sheet.shape[0] - y]
        sheet[y : y + ink.shape[0], x : x + ink.shape[1]] = ink
        x += ink.shape[1] + int(height * random.uniform(0.12, 0.6))
        digits.append(int(label))
    sheet = sheet[:, : x + height]
    paper = random.uniform(170, 250) * np.ones_like(sheet)
    paper *= np.linspace(1, random.uniform(0.75, 1), sheet.shape[1])
    if random.random() < 0.3:
        paper[:: int(height * random.uniform(0.5, 0.9))] *= random.uniform(0.75, 0.95)
    dark = random.uniform(0.15, 0.6)
    photo = paper * (1 - sheet * (1 - dark))
    photo += random.normal(0, random.uniform(0, 5), sheet.shape)
    return photo.clip(0, 255).astype(np.uint8), digits


def numbers_table(sets: dict[str, list], model, count: int) -> None:
    """Numbers composed of the pictures of a set: the share read without a mistake."""
    print(f"\n| {count} numbers of up to eight digits of | digits right |", end="")
    print(" numbers right |\n|---|---:|---:|")
    for name, items in sets.items():
        random = np.random.default_rng(nb.SEED)
        right = all_digits = right_digits = 0
        for _ in range(count):
            sheet, digits = compose(items, random)
            found = answers(sheet, model)
            right += found == digits
            all_digits += len(digits)
            if len(found) == len(digits):
                right_digits += sum(map(int.__eq__, found, digits))
        share = right_digits / all_digits
        print(f"| {name} | {share:.1%} | {right / count:.1%} |", flush=True)


def reading_times(model) -> None:
    """Seconds to read a page of a hundred digits, and a photo of twelve megapixels."""
    number = Image.open(notebook.ROOT / "img" / "number.jpg")
    ink = nb.find_digits(nb.find_ink(nb.load_grey(number)[0]))
    page = Image.new("L", (1200, 1600), 235)
    for i in range(100):
        digit = ink[i % len(ink)][1]
        size = (round(digit.shape[1] * 100 / digit.shape[0]), 100)
        stroke = Image.fromarray(np.uint8(255 * nb.resize(digit, size)))
        page.paste(40, (i % 10 * 110 + 60, i // 10 * 150 + 60), stroke)
    large = Image.new("L", (4000, 3000), 235)
    large.paste(page.crop((50, 50, 150, 170)).resize((1250, 1500)), (1500, 800))
    photo = Path(tempfile.gettempdir()) / "digit_classifier_benchmark.jpg"
    large.save(photo)
    print("\n| picture | digits found | seconds |\n|---|---:|---:|")
    for name, picture in (("page", page), ("12 megapixels", photo)):
        start = time.perf_counter()
        found = len(answers(picture, model))
        print(f"| {name} | {found} | {time.perf_counter() - start:.2f} |")
    photo.unlink()


def handwriting(folder: Path) -> None:
    """All tables about reading, with the model.pth of this folder."""
    model = nb.load_model(notebook.ROOT / "model.pth")
    sets = pictures(folder)
    handwriting_table(sets, model)
    numbers_table(sets, model, 200)
    reading_times(model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--share", type=float, default=1, help="of the images, for the usual loop")
    add("--seeds", type=int, metavar="N", help="train the warped MLP with N seeds")
    add("--epochs", type=int, default=nb.WARPED_EPOCHS, help="for --seeds")
    add("--shift", action="store_true", help="the committed model on shifted digits")
    add("--handwriting", type=Path, metavar="FOLDER", help="pictures and a labels.csv")
    options = parser.parse_args()
    torch.set_num_threads(nb.THREADS)
    print(f"torch {torch.__version__}, {nb.THREADS} threads, CPU")
    if options.handwriting:
        handwriting(options.handwriting)
        return
    training, testing, root = data()
    if options.seeds:
        many_seeds(training, testing, options.seeds, options.epochs)
    if options.shift:
        shift_table(testing)
    if not (options.seeds or options.shift):
        compare_epochs(training, root, options.share)
        time_to_target(training)


if __name__ == "__main__":
    main()

"""Measure what README and notebook claim: python tests/benchmark.py [--help]

Without options: seconds an epoch of the usual loop and of the notebook's, in turns,
and the seconds until the validation accuracy reaches 98 %. MNIST is looked for as in
the notebook (MNIST_ROOT, mirrors, sample).
"""

import argparse
import statistics
import time

import notebook
import torch
from torch.utils.data import DataLoader, Subset
from torchvision import transforms

ROUNDS = 3
TARGET = 0.98
DIRECTIONS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]

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
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, nb.LEARNING_RATE, total_steps=len(loader) + 1, cycle_momentum=False
    )
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
    """A network trained as in chapter 7, but for the seed; its history, the loaders."""
    learn, check = nb.split(training, nb.VALIDATION_SHARE, seed)
    torch.manual_seed(seed)
    model = nb.DigitClassifier()
    loader = nb.make_loader(learn, seed=seed)
    valid_loader = nb.make_loader(check, batch_size=1000)
    return model, nb.fit(model, loader, valid_loader, epochs, warp=warp, live=False)


def time_to_target(training) -> None:
    """Seconds until the plain network's validation accuracy reaches TARGET."""
    _, history = train(training, nb.SEED, nb.PLAIN_EPOCHS, None)
    for number, epoch in enumerate(history, 1):
        if epoch.valid.accuracy >= TARGET:
            told = f"after {epoch.seconds:.1f} s (epoch {number} of {len(history)})"
            break
    else:
        told = f"not within {len(history)} epochs, {history[-1].seconds:.1f} s"
    print(f"\n{TARGET:.0%} validation accuracy on plain images: {told}")


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
    print("\n| shifted by, pixels | test accuracy, mean of 8 directions |\n|---:|---:|")
    for pixels in range(5):
        accuracies = []
        for down, right in DIRECTIONS if pixels else [(0, 0)]:
            inputs = shifted(testing.inputs, pixels * down, pixels * right)
            moved = nb.Part(inputs.contiguous(), testing.labels)
            logits, labels = nb.predict(model, nb.make_loader(moved, batch_size=1000))
            accuracies.append(nb.score(logits, labels).accuracy)
        print(f"| {pixels} | {statistics.mean(accuracies):.2%} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--share", type=float, default=1, help="of the images, for the usual loop")
    add("--seeds", type=int, metavar="N", help="train the warped MLP with N seeds")
    add("--epochs", type=int, default=nb.WARPED_EPOCHS, help="for --seeds")
    add("--shift", action="store_true", help="the committed model on shifted digits")
    options = parser.parse_args()
    torch.set_num_threads(nb.THREADS)
    print(f"torch {torch.__version__}, {nb.THREADS} threads, CPU")
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

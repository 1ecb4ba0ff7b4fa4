"""The network, the warps, the training loop, the figures and the file."""

import math
import pickle
import signal
from unittest.mock import Mock

import notebook
import numpy as np
import pytest
import torch
from conftest import full_disk
from pytest import approx


@pytest.fixture(scope="module")
def training(nb, sample):
    return nb.Digits(notebook.inputs(nb, sample.train_images), sample.train_labels)


@pytest.mark.parametrize("count", [1, 203])
def test_warped_images_are_images(nb, training, count):
    """Paper stays paper, also where the last group isn't full; strength 0 is none."""
    paper, ink = -nb.MEAN / nb.STD, (1 - nb.MEAN) / nb.STD
    images, blank = training.inputs[:count], torch.full((count, 1, 28, 28), paper)
    warped, again = nb.RandomWarp(seed=3)(images), nb.RandomWarp(seed=3)(images)
    assert torch.equal(warped, again)
    assert not torch.equal(warped, nb.RandomWarp(seed=4)(images))
    assert warped.shape == images.shape and warped.dtype == torch.float32
    assert paper - 1e-5 < warped.min() and warped.max() < ink + 1e-5
    assert torch.allclose(nb.RandomWarp(seed=3)(blank), blank, atol=1e-5)
    assert torch.allclose(nb.RandomWarp(3, strength=0)(images), images, atol=1e-4)


@pytest.mark.parametrize("shared", [1, 4])
def test_images_in_a_row_share_a_grid(nb, monkeypatch, training, shared):
    """Each has its own pen all the same, and no grid comes back in the next batch."""
    images = training.inputs[:1].expand(20, -1, -1, -1)
    for pen, different in ((nb.PEN, 40), (0, 40 // shared)):
        monkeypatch.setattr(nb, "PEN", pen)
        warp = nb.RandomWarp(seed=3, shared=shared)
        both = torch.cat([warp(images), warp(images)]).flatten(1)
        assert len(both.unique(dim=0)) == different
    assert torch.equal(both[::shared].repeat_interleave(shared, 0), both)


def test_warps_go_as_far_as_stated(nb, monkeypatch):
    names = ("ROTATION", "SCALE", "SHEAR", "SHIFT", "ELASTIC")
    most = {name: getattr(nb, name) for name in names}

    def moved(on):
        """How far pixels go where only this warp is on: (500, 28, 28, 2), in pixels."""
        for name in names:
            monkeypatch.setattr(nb, name, most[name] if name == on else 0)
        warp = nb.RandomWarp(seed=3)
        straight = warp.fields[:2].T.reshape(28, 28, 2)  # the fields x and y
        return (warp.grids(500) - straight) * 14

    shift, wobble = moved("SHIFT"), moved("ELASTIC")
    assert torch.allclose(shift, shift[:, :1, :1], atol=1e-4)
    assert shift.abs().max() == approx(most["SHIFT"], rel=0.01)
    chord = 2 * math.sin(math.radians(most["ROTATION"]) / 2) * 13.5 * math.sqrt(2)
    assert moved("ROTATION")[:, 0, 0].norm(dim=1).max() == approx(chord, rel=0.01)
    assert wobble.square().mean().sqrt() == approx(most["ELASTIC"], rel=0.05)
    assert wobble.std(dim=(1, 2)).mean() > 0.3  # it isn't a mere shift


def test_drawn_digits(nb):
    """Their labels, and 20 pixels long as MNIST's digits are."""
    drawn = nb.draw_digits(3, seed=1)
    assert drawn.labels[::3].tolist() == [int(shape[0]) for shape in nb.SHAPES]
    ink = (drawn.inputs * nb.STD + nb.MEAN)[:, 0] > 0.01
    extents = torch.stack([ink.any(axis).sum(1) for axis in (1, 2)])
    assert 19 <= extents.amax(0).min() and extents.max() <= 22
    assert torch.equal(nb.draw_digits(3, seed=1).inputs, drawn.inputs)


# --- training, and what is said of answers -------------------------------------------


def train(nb, training, **options):
    """A model trained on 800 digits in four epochs, its history, and 800 others."""
    torch.manual_seed(0)
    model = nb.make_cnn() if options.pop("cnn", False) else nb.DigitClassifier()
    parts = [nb.Digits(*training[i::5]) for i in range(2)]
    loaders = nb.make_loader(parts[0], 32, seed=0), nb.make_loader(parts[1], 300)
    return model, nb.fit(model, *loaders, 4, **options), parts[1]


def test_fit_learns(nb, training):
    """From 800 digits in a few epochs far from chance; the history says what is."""
    sgd = {"optimizer_class": torch.optim.SGD, "learning_rate": 0.2}
    for options in ({"warp": nb.RandomWarp(0)}, sgd, {"cnn": True}):
        model, history, others = train(nb, training, **options)
        assert history[-1].train_loss < 0.7 * history[0].train_loss
        assert history[-1].train_accuracy > history[0].train_accuracy
        assert history[-1].valid_accuracy > 0.7 and len(history) == 4
        assert not model.training  # batch norm stays as it is
        last = nb.score(model(others.inputs), others.labels)
        assert last == approx((history[-1].valid_loss, history[-1].valid_accuracy))


def test_warps_fade_and_training_stops_at_once(nb, training):
    """Never stronger again; a batch or two after somebody interrupts it is over."""
    strengths, spy = [], Mock()

    def warp(images):
        strengths.append(spy.faded)
        if len(strengths) == 90:  # in the last of four epochs of 25 batches
            signal.raise_signal(signal.SIGINT)
        return images

    spy.side_effect = warp
    with pytest.raises(KeyboardInterrupt):
        train(nb, training, warp=spy)
    assert len(strengths) <= 92
    assert strengths == sorted(strengths, reverse=True)
    assert (strengths[0], strengths[-1]) == (1, approx(nb.fade(0.75)))
    assert nb.fade(nb.FADE_FROM) == 1 and nb.fade(1) == approx(nb.FADE_TO)


def test_measures_by_hand(nb):
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 0.0]])
    loss = sum(math.log(1 + math.exp(-margin)) for margin in (2, 1, -3, 0)) / 4
    assert nb.score(logits, torch.tensor([0, 1, 1, 0])) == (approx(loss), 0.75)
    matrix = nb.confusion_matrix(torch.tensor([3, 3, 9]), torch.tensor([3, 8, 1]))
    assert matrix.sum() == 3 and matrix[3, 3] == matrix[3, 8] == matrix[9, 1] == 1
    for right, n in ((0, 1), (1, 1), (37, 100)):  # |share - p| = z sqrt(p (1 - p) / n)
        z, share = 1.96, right / n
        roots = np.roots([1 + z**2 / n, -(2 * share + z**2 / n), share**2])
        assert nb.wilson(right, n) == approx(sorted(roots.real), abs=1e-7)
    confidence = torch.tensor([0.9, 0.9, 0.7, 0.7, 0.7])
    right = torch.tensor([True, False, True, True, True])
    assert nb.threshold_for(confidence, right, 0.8) == approx(0.7)
    assert nb.threshold_for(confidence, ~right, 0.8) == math.inf


# --- model.pth -----------------------------------------------------------------------


def test_save_and_load(nb, tmp_path, training):
    """Where the disk is full, the old file stays; what a killed run left is cleared."""
    model, path = nb.DigitClassifier(), tmp_path / "model.pth"
    path.write_bytes(b"the old one")
    with full_disk(), pytest.raises((OSError, RuntimeError)):
        nb.save_model(model, path)
    assert path.read_bytes() == b"the old one" and list(tmp_path.iterdir()) == [path]
    path.with_suffix(".tmp").write_bytes(b"half")
    nb.save_model(model, path)
    assert list(tmp_path.iterdir()) == [path]
    loaded = nb.load_model(str(path))
    assert torch.equal(loaded(training.inputs), model(training.inputs))
    assert not loaded.training


class Bomb:
    """Whoever unpickles it makes a file named ran."""

    def __reduce__(self):
        return open, ("ran", "w")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_broken_file(nb, tmp_path, monkeypatch):
    """A ValueError in a line that names the file; no code in it runs."""
    monkeypatch.chdir(tmp_path)
    state, path = nb.DigitClassifier().state_dict(), tmp_path / "model.pth"
    torch.save(state, path)
    broken = [b"<html>not found</html>", path.read_bytes()[:-100], pickle.dumps(Bomb())]
    broken += [list(state.values()), {n: v[:5] for n, v in state.items()}]
    broken += [{**state, "fc1.weight": Bomb()}, {**state, "fc4": torch.ones(1)}]
    for content in broken:
        torch.save(content, path)
        if isinstance(content, bytes):
            path.write_bytes(content)
        with pytest.raises(ValueError) as caught:
            nb.load_model(path)
        assert str(path) in str(caught.value) and str(caught.value).isprintable()
    path.unlink()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError, match="model.pth"):
        nb.load_model(path)

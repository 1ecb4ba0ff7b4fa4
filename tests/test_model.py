"""The network, the warps, the training loop, the figures and the file."""

import math
import pickle
import signal

import numpy as np
import pytest
import torch
from conftest import full_disk
from pytest import approx


@pytest.fixture(scope="module")
def training(nb, sample):
    return nb.TensorDataset(nb.normalise(sample.train_images), sample.train_labels)


def seeded(function, *arguments, seed=3):
    """What this gives where PyTorch's random numbers begin with that seed."""
    torch.manual_seed(seed)
    return function(*arguments)


@pytest.mark.parametrize("count", [1, 203])
def test_warped_images_are_images(nb, training, count):
    """Paper stays paper, also where the last group isn't full; strength 0 is none."""
    paper, ink = -nb.MEAN / nb.STD, (1 - nb.MEAN) / nb.STD
    images = training.tensors[0][:count]
    blank = torch.full((count, 1, 28, 28), paper)
    warped = seeded(nb.random_warp, images)
    assert torch.equal(warped, seeded(nb.random_warp, images))
    assert not torch.equal(warped, seeded(nb.random_warp, images, seed=4))
    assert warped.shape == images.shape and warped.dtype == torch.float32
    assert paper - 1e-5 < warped.min() and warped.max() < ink + 1e-5
    assert torch.allclose(nb.random_warp(blank), blank, atol=1e-5)
    assert torch.allclose(nb.random_warp(images, 0), images, atol=1e-4)


@pytest.mark.parametrize("shared", [1, 4])
def test_images_in_a_row_share_a_grid(nb, monkeypatch, training, shared):
    """Each has its own pen all the same, and no grid comes back in the next batch."""
    images = training.tensors[0][:1].expand(20, -1, -1, -1)
    monkeypatch.setattr(nb, "IMAGES_PER_GRID", shared)
    for pen, different in ((nb.PEN, 40), (0, 40 // shared)):
        monkeypatch.setattr(nb, "PEN", pen)
        both = torch.cat([nb.random_warp(images), nb.random_warp(images)]).flatten(1)
        assert len(both.unique(dim=0)) == different
    assert torch.equal(both[::shared].repeat_interleave(shared, 0), both)


def test_warps_go_as_far_as_stated(nb, monkeypatch):
    names = ("ROTATION", "SCALE", "SHEAR", "SHIFT", "ELASTIC")
    most = {name: getattr(nb, name) for name in names}

    def moved(on):
        """How far pixels go where only this warp is on: (500, 28, 28, 2), in pixels."""
        for name in names:
            monkeypatch.setattr(nb, name, most[name] if name == on else 0)
        straight = nb.FIELDS[:2].T.reshape(28, 28, 2)  # the fields x and y
        return (seeded(nb.random_grids, 500, 1.0) - straight) * 14

    shift, wobble = moved("SHIFT"), moved("ELASTIC")
    assert torch.allclose(shift, shift[:, :1, :1], atol=1e-4)
    assert shift.abs().max() == approx(most["SHIFT"], rel=0.01)
    corner = 13.5 * math.sqrt(2)
    chord = 2 * math.sin(math.radians(most["ROTATION"]) / 2) * corner
    assert moved("ROTATION")[:, 0, 0].norm(dim=1).max() == approx(chord, rel=0.01)
    assert moved("SCALE").abs().max() == approx(most["SCALE"] * 13.5, rel=0.01)
    assert moved("SHEAR").abs().max() == approx(most["SHEAR"] * 13.5, rel=0.01)
    assert wobble.square().mean().sqrt() == approx(most["ELASTIC"], rel=0.05)
    assert wobble.std(dim=(1, 2)).mean() > 0.3  # it isn't a mere shift


def test_warps_fade(nb, monkeypatch):
    """From FADE_FROM on, in a straight line to FADE_TO, and never stronger again."""
    strengths = []
    monkeypatch.setattr(nb, "random_warp", lambda inputs, k: strengths.append(k))
    for done in (0, nb.FADE_FROM / 2, nb.FADE_FROM, (1 + nb.FADE_FROM) / 2, 1):
        nb.fading_warp(None, done)
    assert strengths == approx([1, 1, 1, (1 + nb.FADE_TO) / 2, nb.FADE_TO])


def extents(inputs):
    """Width and height of the ink of inputs (N, 1, 28, 28), in pixels."""
    return torch.stack([(inputs[:, 0] > -0.4).any(axis).sum(1) for axis in (1, 2)], 1)


def test_drawn_digits(nb):
    """Their labels, 20 pixels long and with their mass in the middle, as MNIST's."""
    for label in nb.SHAPES:
        drawn = seeded(nb.draw, label, 3)
        inputs, labels = drawn.tensors
        assert len(labels) == 3 * len(nb.SHAPES[label].split(","))
        assert set(labels.tolist()) == {label}
        assert inputs.dtype == torch.float32 and inputs.shape[1:] == (1, 28, 28)
        longest = extents(inputs).amax(1)
        assert 19 <= longest.min() and longest.max() <= 22
        ink, axis = (inputs * nb.STD + nb.MEAN)[:, 0], torch.arange(28.0)
        for side in (1, 2):
            centre = ink.sum(side) @ axis / ink.sum((1, 2))
            assert (centre - 14).abs().max() < 1
        assert torch.equal(seeded(nb.draw, label, 3).tensors[0], inputs)
        assert not torch.equal(seeded(nb.draw, label, 3, seed=4).tensors[0], inputs)


# --- training, and what is said of answers -------------------------------------------


def train(nb, training, make_model=None, **options):
    """What `train` gives of 800 digits in four epochs; and 800 others to validate."""
    parts = [nb.TensorDataset(*training[i::5]) for i in range(2)]
    data = (parts[0], parts[1], 4, 32)
    return *nb.train(make_model or nb.DigitClassifier, *data, **options), parts[1]


def test_training_learns(nb, training):
    """From 800 digits in a few epochs far from chance; the history says what is."""
    slow = {"learning_rate": 0.5 * nb.LEARNING_RATE}
    cnn = {"make_model": nb.make_cnn}
    for options in ({"warp": nb.fading_warp}, slow, cnn):
        model, history, others = train(nb, training, **options)
        first, last = history.iloc[0], history.iloc[-1]
        assert last.train_loss < 0.7 * first.train_loss
        assert last.train_accuracy > first.train_accuracy
        assert last.valid_accuracy > 0.7 and list(history.index) == [1, 2, 3, 4]
        assert history.seconds.is_monotonic_increasing
        assert not model.training  # batch norm stays as it is
        inputs, labels = others.tensors
        wanted = nb.score(model(inputs).detach(), labels)
        assert wanted == approx((last.valid_loss, last.valid_accuracy))


def test_one_seed_one_result(nb, monkeypatch, training):
    """To the last bit, with warps, and though a thread prepares the batches."""

    def weights(**options):
        model, history, _ = train(nb, training, warp=nb.fading_warp, **options)
        return [*model.state_dict().values(), torch.tensor(history.train_loss.tolist())]

    def same(one, two):
        return all(map(torch.equal, one, two))

    first = weights()
    torch.rand(5)  # random numbers that somebody else drew in between
    assert same(first, weights())
    monkeypatch.setattr(nb, "ahead", iter)  # without the thread
    assert same(first, weights())
    monkeypatch.setattr(nb, "SEED", nb.SEED + 1)
    assert not same(first, weights())


def test_training_stops_at_once(nb, training):
    """A batch or two after somebody interrupts it, and there is no model."""
    shares, bound = [], {}

    def warp(images, done):
        shares.append(done)
        if len(shares) == 90:  # in the last of four epochs of 25 batches
            signal.raise_signal(signal.SIGINT)
        return images

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job may ignore it
    with pytest.raises(KeyboardInterrupt):
        bound["model"], bound["history"], _ = train(nb, training, warp=warp)
    assert len(shares) <= 92 and not bound
    assert shares == sorted(shares) and set(shares) == {0, 0.25, 0.5, 0.75}


def test_what_is_no_digit(nb, training):
    """It has one target for all digits, isn't counted, and is doubted then."""
    assert torch.equal(nb.TARGETS[:10], torch.eye(10))
    assert torch.equal(nb.TARGETS[nb.NO_DIGIT], torch.full((10,), 0.05))
    letters, confidence = seeded(nb.draw, nb.NO_DIGIT, 20), []
    for dataset in (training, nb.join(training, nb.draw(nb.NO_DIGIT, 20))):
        data = (dataset, nb.TensorDataset(*training[:500]), 4, 128)
        model, history = nb.train(nb.DigitClassifier, *data)
        logits, labels = nb.predict(model, nb.make_loader(letters, 1000))
        assert set(labels.tolist()) == {nb.NO_DIGIT}
        assert history.train_accuracy.iloc[-1] > 0.9  # of the digits
        confidence.append(logits.softmax(1).amax(1).mean())
    assert confidence[1] < 0.7 * confidence[0]


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
    chances = torch.tensor([0.9, 0.9, 0.7, 0.7, 0.7])
    logits = torch.stack([chances, 1 - chances], 1).log()  # answer 0 each time
    table = nb.answers_of(logits, torch.tensor([0, 1, 0, 0, 0]))
    assert table.confidence.tolist() == approx(chances.tolist())
    assert table.right.tolist() == [True, False, True, True, True]
    assert table.answer.tolist() == [0] * 5 and table.label.tolist() == [0, 1, 0, 0, 0]
    assert nb.threshold_for(table, 0.8) == approx(0.7)
    assert not (0.7 >= nb.threshold_for(table.assign(right=~table.right), 0.8))


# --- model.pth -----------------------------------------------------------------------


def test_save_and_load(nb, tmp_path, training):
    """Where the disk is full, the old file stays; the next run clears the rest."""
    model, path = nb.DigitClassifier(), tmp_path / "model.pth"
    path.write_bytes(b"the old one")
    with full_disk(), pytest.raises((OSError, RuntimeError)):
        nb.save_model(model, path)
    assert path.read_bytes() == b"the old one"
    nb.save_model(model, path)
    assert list(tmp_path.iterdir()) == [path]
    loaded = nb.load_model(str(path))
    assert torch.equal(loaded(training.tensors[0]), model(training.tensors[0]))
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

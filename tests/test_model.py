"""The network, the warps, the training loop, the figures and the file."""

import copy
import math
import pickle

import notebook
import numpy as np
import pytest
import torch

SHAPES = {
    "fc1.weight": (128, 784),
    "fc1.bias": (128,),
    "fc2.weight": (64, 128),
    "fc2.bias": (64,),
    "fc3.weight": (10, 64),
    "fc3.bias": (10,),
}


# --- DigitClassifier -----------------------------------------------------------


@pytest.fixture
def model(nb):
    torch.manual_seed(0)
    return nb.DigitClassifier().eval()


def test_keys_and_shapes(model):
    state = model.state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == SHAPES
    assert {value.dtype for value in state.values()} == {torch.float32}


def test_parameter_count(nb, model):
    assert nb.count_parameters(model) == 784 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10
    assert nb.count_parameters(model) == 109_386


def test_both_input_shapes_give_the_same_logits(model, parts):
    images = parts[1].inputs[:7]
    logits = model(images)
    assert logits.shape == (7, 10) and logits.dtype == torch.float32
    assert torch.equal(model(images.view(7, 784)), logits)


def test_forward_is_the_three_layers(model, parts):
    """Computed with numpy: ReLU after the first two layers, nothing after the last."""
    hidden = parts[1].inputs[:20].flatten(1).numpy()
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    for layer in ("fc1", "fc2", "fc3"):
        hidden = hidden @ state[f"{layer}.weight"].T + state[f"{layer}.bias"]
        if layer != "fc3":
            hidden = np.maximum(hidden, 0)
    logits = model(parts[1].inputs[:20]).detach().numpy()
    np.testing.assert_allclose(logits, hidden, atol=1e-5)


def test_outputs_are_logits(model, parts):
    logits = model(parts[1].inputs[:100])
    assert logits.min() < 0
    assert not torch.allclose(logits.exp().sum(1), torch.ones(100), atol=0.01)
    assert not torch.allclose(logits.sum(1), torch.ones(100), atol=0.01)


def test_initial_loss_is_near_ln_10(nb, parts):
    for seed in range(3):
        torch.manual_seed(seed)
        logits, labels = nb.predict(
            nb.DigitClassifier(), nb.make_loader(parts[1], batch_size=1000)
        )
        assert abs(nb.score(logits, labels).loss - math.log(10)) < 0.15


def test_threads_stay_sensible(nb, monkeypatch):
    """Two at most, whatever the machine."""
    for cores, threads in ((None, 1), (1, 1), (2, 2), (64, 2)):
        monkeypatch.setattr(nb.os, "cpu_count", lambda cores=cores: cores)
        assert notebook.load().THREADS == threads


# --- RandomWarp ----------------------------------------------------------------


def test_warps_repeat_by_their_seed_only(nb, parts):
    images = parts[0].inputs[:50]
    torch.manual_seed(1)
    first = nb.RandomWarp(seed=3)(images)
    torch.manual_seed(2)
    assert torch.equal(nb.RandomWarp(seed=3)(images), first)
    assert not torch.equal(nb.RandomWarp(seed=4)(images), first)


def test_warps_leave_the_global_generator_alone(nb, parts):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    nb.RandomWarp(seed=3)(parts[0].inputs[:50])
    assert torch.equal(torch.get_rng_state(), before)


def test_strength_0_changes_nothing(nb, parts):
    images = parts[0].inputs[:200]
    difference = (nb.RandomWarp(seed=3, strength=0)(images) - images).abs().max()
    assert difference < 1e-4


def test_weaker_warps_change_less(nb, parts):
    images = parts[0].inputs[:200]
    changes = [
        (nb.RandomWarp(seed=3, strength=s)(images) - images).square().mean()
        for s in (0.25, 0.5, 1)
    ]
    assert 0.01 < changes[0] < changes[1] < changes[2]


def test_paper_stays_paper(nb):
    paper = -nb.MEAN / nb.STD
    blank = torch.full((100, 1, 28, 28), paper)
    assert (nb.RandomWarp(seed=3)(blank) - paper).abs().max() < 1e-5


def test_warped_values_are_those_of_images(nb, parts):
    images = parts[0].inputs[:500]
    warped = nb.RandomWarp(seed=3)(images)
    assert warped.shape == images.shape and warped.dtype == torch.float32
    assert warped.min() >= -nb.MEAN / nb.STD - 1e-5
    assert warped.max() <= (1 - nb.MEAN) / nb.STD + 1e-5


def test_each_image_is_warped_its_own_way(nb, parts):
    warp = nb.RandomWarp(seed=3)
    images = parts[0].inputs[:1].expand(20, -1, -1, -1)
    both = torch.cat([warp(images), warp(images)]).flatten(1)
    assert len(both.unique(dim=0)) == 40


def test_warps_leave_their_input_alone(nb, parts):
    images = parts[0].inputs[:50].clone()
    nb.RandomWarp(seed=3)(images)
    assert torch.equal(images, parts[0].inputs[:50])


@pytest.fixture
def displacement(nb, monkeypatch):
    """Call it with settings, the other warps off: how far pixels move, (N, 2, 8, 8).

    Two ramps are warped by the same seed, one across and one down: a grey value tells
    where it comes from. In pixels, for the middle of the image.
    """

    def measure(n=500, **settings):
        for name in ("ROTATION", "SCALE", "SHEAR", "SHIFT", "ELASTIC", "PEN"):
            monkeypatch.setattr(nb, name, settings.get(name, 0))
        columns = torch.arange(28.0).expand(n, 1, 28, 28)
        moved = []
        for ramp in (columns, columns.transpose(2, 3)):
            images = (ramp / 27 - nb.MEAN) / nb.STD
            warped = nb.RandomWarp(seed=3)(images)
            moved.append((warped - images) * nb.STD * 27)
        return torch.cat(moved, 1)[:, :, 10:18, 10:18]

    return measure


def test_shifts_are_as_far_as_stated(nb, displacement):
    """Of the image as a whole, evenly up to SHIFT pixels."""
    moved = displacement(SHIFT=nb.SHIFT)
    assert torch.allclose(moved, moved[:, :, :1, :1].expand_as(moved), atol=1e-3)
    assert 0.95 * nb.SHIFT < moved.abs().max() < nb.SHIFT + 1e-3
    assert moved.mean().abs() < 0.1 * nb.SHIFT


def test_turns_are_as_far_as_stated(nb, displacement):
    """A pixel at distance r from the middle moves across by r times the sine."""
    moved = displacement(ROTATION=nb.ROTATION)
    across_by_row = (moved[:, 0, -1] - moved[:, 0, 0]).mean(1) / 7
    most = math.sin(math.radians(nb.ROTATION))
    assert 0.95 * most < across_by_row.abs().max() < most + 1e-3


def test_wobble_is_as_strong_as_stated(nb, displacement):
    """ELASTIC is its root mean square in pixels; in the middle a little more."""
    moved = displacement(n=2000, ELASTIC=nb.ELASTIC)
    strength = moved.square().mean().sqrt().item()
    assert 0.9 * nb.ELASTIC < strength < 1.3 * nb.ELASTIC
    assert moved.std(dim=(2, 3)).mean() > 0.1 * nb.ELASTIC  # it isn't a mere shift


# --- fit, predict, score -------------------------------------------------------


@pytest.fixture
def train(nb, parts):
    """Call it: a model trained on 800 digits, and its history."""
    few = nb.Part(*(values[::5] for values in parts[0]))
    valid_loader = nb.make_loader(parts[1], batch_size=1000)

    def run(seed=0, warp=None, epochs=5, others=0, **options):
        torch.manual_seed(seed)
        model = nb.DigitClassifier()
        torch.manual_seed(others)  # nothing after the first weights may use it
        loader = nb.make_loader(few, 32, seed)
        history = nb.fit(
            model, loader, valid_loader, epochs, warp=warp, live=False, **options
        )
        return model, history

    return run


def test_fit_learns(nb, train):
    """From 800 digits and in five epochs: far from chance, with and without warps."""
    for warp in (None, nb.RandomWarp(0)):
        _, history = train(warp=warp)
        assert len(history) == 5
        assert history[-1].train.loss < history[0].train.loss / 2
        assert history[-1].valid.loss < 0.8 * history[0].valid.loss
        assert history[-1].valid.accuracy > 0.7
        seconds = [epoch.seconds for epoch in history]
        assert seconds == sorted(seconds) and seconds[0] > 0


def test_fit_learns_with_sgd(nb, train):
    _, history = train(optimizer_class=torch.optim.SGD, learning_rate=0.2)
    assert history[-1].valid.accuracy > 0.7


def test_same_seed_same_weights(nb, train):
    """To the last bit, whatever the global generator does meanwhile."""
    states = []
    for seed, others in ((1, 1), (1, 2), (2, 1)):
        model, _ = train(seed, nb.RandomWarp(seed), epochs=2, others=others)
        states.append(model.state_dict())
    first, second, third = states
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(torch.equal(first[name], third[name]) for name in first)


def test_history_tells_what_the_model_does(nb, train, parts):
    """The last validation score is that of the model as it is handed back."""
    model, history = train(epochs=2)
    loader = nb.make_loader(parts[1], batch_size=1000)
    assert nb.score(*nb.predict(model, loader)) == history[-1].valid


def test_warps_fade(nb, train):
    """Full strength at first, FADE_TO of it at the end, never more than before."""
    assert nb.fade(0) == nb.fade(nb.FADE_FROM) == 1
    assert nb.fade(1) == pytest.approx(nb.FADE_TO)
    warp = nb.RandomWarp(0, strength=0.8)
    strengths = []

    class Spy:
        strength = 0.8

        def __call__(self, images):
            strengths.append(self.strength)
            return warp(images)

    train(warp=Spy())
    assert strengths[0] == 0.8
    assert strengths == sorted(strengths, reverse=True)
    assert strengths[-1] == pytest.approx(0.8 * nb.fade(4 / 5))


def test_predict_leaves_weights_and_order_alone(nb, model, parts):
    before = copy.deepcopy(model.state_dict())
    logits, labels = nb.predict(model, nb.make_loader(parts[1], batch_size=300))
    assert torch.equal(labels, parts[1].labels)
    assert torch.allclose(logits, model(parts[1].inputs), atol=1e-5)
    assert not logits.requires_grad and not model.training
    assert all(torch.equal(value, before[n]) for n, value in model.state_dict().items())


def test_score(nb):
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 0.0]])
    labels = torch.tensor([0, 1, 1, 0])
    right = [2 - math.log(math.exp(2) + 1), 1 - math.log(math.e + 1)]
    wrong = [-math.log(math.exp(3) + 1), -math.log(2)]
    loss, accuracy = nb.score(logits, labels)
    assert loss == pytest.approx(-sum(right + wrong) / 4, abs=1e-6)
    assert accuracy == 0.75


def test_score_of_certain_and_wrong_is_finite(nb):
    loss, accuracy = nb.score(torch.tensor([[1000.0, 0.0]]), torch.tensor([1]))
    assert (loss, accuracy) == (1000, 0)


def test_confusion_matrix(nb):
    """Row = label, column = answer, counted one by one."""
    generator = torch.Generator().manual_seed(0)
    labels, answers = torch.randint(10, (2, 500), generator=generator)
    expected = torch.zeros(10, 10, dtype=torch.int64)
    for label, answer in zip(labels.tolist(), answers.tolist(), strict=True):
        expected[label, answer] += 1
    assert torch.equal(nb.confusion_matrix(labels, answers), expected)


@pytest.mark.parametrize("count", [1, 10, 1000, 10_000])
def test_wilson(nb, count):
    """Its ends are the shares p with (right/count - p)^2 = z^2 p (1 - p) / count."""
    z = 1.96
    for right in {0, 1, count // 2, count - 1, count}:
        share = right / count
        low, high = nb.wilson(right, count)
        roots = np.roots([1 + z**2 / count, -(2 * share + z**2 / count), share**2])
        assert [low, high] == pytest.approx(sorted(roots.real), abs=1e-7)
        assert -1e-9 < low < share + 1e-9 and share - 1e-9 < high < 1 + 1e-9


# --- model.pth -----------------------------------------------------------------


def test_file_round_trip(nb, model, tmp_path, parts):
    path = tmp_path / "model.pth"
    nb.save_model(model, path)
    loaded = nb.load_model(path)
    assert not loaded.training
    assert torch.equal(loaded(parts[1].inputs), model(parts[1].inputs))
    assert torch.equal(nb.load_model(str(path)).fc1.bias, model.fc1.bias)
    assert [file.name for file in tmp_path.iterdir()] == ["model.pth"]


def test_file_holds_plain_tensors(nb, model, tmp_path):
    """A dict of the six names and float32 tensors, which owe nothing to a view."""
    nb.save_model(model, tmp_path / "model.pth")
    state = torch.load(tmp_path / "model.pth", weights_only=True)
    assert {name: tuple(value.shape) for name, value in state.items()} == SHAPES
    for value in state.values():
        assert type(value) is torch.Tensor
        assert value.dtype == torch.float32 and value.device.type == "cpu"
        assert not value.requires_grad and value.is_contiguous()
    size = (tmp_path / "model.pth").stat().st_size
    assert 4 * 109_386 < size < 4 * 109_386 + 5000


def test_same_model_same_bytes(nb, model, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        nb.save_model(model, tmp_path / name / "model.pth")
    first, second = (tmp_path / n / "model.pth" for n in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("error", [OSError, RuntimeError, KeyboardInterrupt])
def test_failed_save_leaves_the_old_file(nb, model, tmp_path, monkeypatch, error):
    path = tmp_path / "model.pth"
    path.write_bytes(b"the old one")

    def save(state, file):
        file.write_bytes(b"half of the new")
        raise error

    monkeypatch.setattr(nb.torch, "save", save)
    with pytest.raises(error):
        nb.save_model(model, path)
    assert path.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_save_on_a_small_disk(nb, model, small_disk):
    path = small_disk / "model.pth"
    path.write_bytes(b"the old one" * 10_000)
    with pytest.raises((OSError, RuntimeError)):
        nb.save_model(model, path)
    assert path.read_bytes() == b"the old one" * 10_000
    assert list(small_disk.iterdir()) == [path]


def test_save_clears_what_a_killed_run_left(nb, model, tmp_path):
    nb.save_model(model, tmp_path / "first.pth")
    (tmp_path / "model.tmp").write_bytes(b"half")
    nb.save_model(model, tmp_path / "model.pth")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["first.pth", "model.pth"]
    nb.load_model(tmp_path / "model.pth")


def test_missing_file(nb, tmp_path):
    with pytest.raises(FileNotFoundError, match="model.pth"):
        nb.load_model(tmp_path / "model.pth")


class Bomb:
    """Whoever unpickles it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def cut(path, count):
    path.write_bytes(path.read_bytes()[:-count])


# What isn't a model's file, and how to make it from one with this state_dict.
BROKEN = {
    "empty": lambda path, state: path.write_bytes(b""),
    "text": lambda path, state: path.write_text("<html>not found</html>"),
    "half": lambda path, state: cut(path, 200_000),
    "last bytes cut": lambda path, state: cut(path, 100),
    "a pickle": lambda path, state: path.write_bytes(pickle.dumps([1, 2])),
    "a whole model": lambda path, state: torch.save(torch.nn.Linear(3, 3), path),
    "a list": lambda path, state: torch.save(list(state.values()), path),
    "a tensor": lambda path, state: torch.save(torch.ones(3), path),
    "numbers": lambda path, state: torch.save(dict.fromkeys(state, 1.0), path),
    "numbered": lambda path, state: torch.save(dict(enumerate(state.values())), path),
    "other shapes": lambda path, state: torch.save(
        {name: value[:5] for name, value in state.items()}, path
    ),
    "other keys": lambda path, state: torch.save(
        {f"module.{name}": value for name, value in state.items()}, path
    ),
    "a key less": lambda path, state: torch.save(
        {name: value for name, value in state.items() if name != "fc3.bias"}, path
    ),
    "a key more": lambda path, state: torch.save({**state, "fc4": torch.ones(1)}, path),
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_broken_file(nb, model, tmp_path, what):
    """A ValueError in a line that names the file, gives a reason and no bad advice."""
    path = tmp_path / "model.pth"
    nb.save_model(model, path)
    BROKEN[what](path, dict(model.state_dict()))
    with pytest.raises(ValueError) as caught:
        nb.load_model(path)
    message = str(caught.value)
    print(message)
    assert str(path) in message and message.isprintable()
    assert message.rstrip()[-1] != ":"
    assert "weights_only" not in message and "you have two options" not in message


@pytest.mark.parametrize("as_torch_does", [True, False])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_file_is_not_run(nb, tmp_path, as_torch_does):
    path, trace = tmp_path / "model.pth", tmp_path / "ran"
    bomb = {"fc1.weight": Bomb(trace)}
    if as_torch_does:
        torch.save(bomb, path)
    else:
        path.write_bytes(pickle.dumps(bomb))
    with pytest.raises(ValueError, match=r"model\.pth"):
        nb.load_model(path)
    assert not trace.exists()
    if as_torch_does:  # whoever trusts the file runs the code: it was a live one
        torch.load(path, weights_only=False)
    else:
        pickle.loads(path.read_bytes())
    assert trace.exists()

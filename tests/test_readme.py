"""model.pth in somebody else's script."""

import json
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import SAMPLE
from golden import first_of_each_class
from notebook import NOTEBOOK, ROOT, committed, readme_scripts
from PIL import Image
from test_model import Bomb

OWN_CLASS = """
import sys

import numpy as np
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(784, 128)
        self.fc2 = nn.Linear(128, 64)
        self.fc3 = nn.Linear(64, 10)

    def forward(self, x):
        return self.fc3(self.fc2(self.fc1(x.flatten(1)).relu()).relu())


model = Net()
model.load_state_dict(torch.load("model.pth")); model.eval()

images = torch.from_numpy(np.load("images.npy"))
with torch.no_grad():
    np.save("logits.npy", model((images / 255 - 0.1307) / 0.3081).numpy())
"""


@pytest.fixture(scope="session")
def digits(nb):
    """The first test digit of each class in the sample, uint8 (10, 28, 28)."""
    digits, labels = first_of_each_class(nb.read_mnist(SAMPLE, "sample"))
    assert labels.tolist() == list(range(10))
    return digits


@pytest.fixture
def folder(tmp_path):
    """An empty folder with a copy of the committed model.pth."""
    (tmp_path / "model.pth").write_bytes(committed("model.pth"))
    return tmp_path


def python(folder, *arguments):
    """Run a script there; any warning is an error. Gives what it printed."""
    command = [sys.executable, "-W", "error", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.fixture
def script(folder):
    """The same folder with README's script, and no notebook."""
    (folder / "read_digits.py").write_text(readme_scripts()[0], encoding="utf-8")
    return folder


def refused(script, name):
    """What the script says, in one line, about a picture that it can't read."""
    command = [sys.executable, "read_digits.py", name]
    done = subprocess.run(command, cwd=script, capture_output=True, text=True)
    assert done.returncode != 0 and done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def sheet(digits, gap=40, size=140):
    """Ink (H, W), uint8, of digits in a row, enlarged, some paper around each."""
    row = [np.pad(digit.numpy(), ((0, 0), (3, 3))) for digit in digits]
    row = Image.fromarray(np.hstack(row))
    row = row.resize((row.width * size // 28, size), Image.Resampling.BICUBIC)
    return np.pad(np.asarray(row), gap)


def draw_pictures(folder, digits):
    """The digits 0 to 9 as people might have them: name and order of the digits."""
    row, lines = sheet(digits[:5]), np.vstack([sheet(digits[:5]), sheet(digits[5:])])
    light = np.linspace(1, 0.55, lines.shape[1])
    noise = np.random.default_rng(0).normal(0, 3, lines.shape)
    photo = (light * (230 - 0.6 * lines) + noise).clip(0, 255).astype(np.uint8)
    Image.fromarray(255 - row).save(folder / "scan.png")
    Image.fromarray(row).save(folder / "reversed.png")
    Image.fromarray(photo).save(folder / "photo.jpg", quality=80)
    clear = np.dstack([np.zeros((*row.shape, 3), np.uint8), row])
    Image.fromarray(clear).save(folder / "clear.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned to the left: the camera was held upright
    turned = Image.fromarray(np.rot90(255 - row))
    turned.convert("CMYK").save(folder / "turned.jpg", exif=exif)
    Image.fromarray(digits[3].numpy()).save(folder / "small.png")
    Image.fromarray((255 - row).astype(np.uint16) * 257).save(folder / "deep.png")
    number = (ROOT / "img" / "number.jpg").read_bytes()
    (folder / "number.jpg").write_bytes(number)
    names = ["scan.png", "reversed.png", "photo.jpg", "clear.png", "turned.jpg"]
    return [*names, "small.png", "deep.png", "number.jpg"]


def test_readme_script_is_short(script):
    """At most sixty lines, and three packages."""
    text = (script / "read_digits.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    packages = set(re.findall(r"^(?:import|from) (\w+)", text, flags=re.M))
    assert packages == {"sys", "numpy", "torch", "PIL"}


def test_readme_script_reads_as_the_notebook_does(nb, script, digits):
    """In an empty folder: the same digits in the same order, and nearly their boxes."""
    model = nb.load_model(script / "model.pth")
    for name in draw_pictures(script, digits):
        told = python(script, "read_digits.py", name).splitlines()
        readings = nb.read_digits(script / name, model)
        assert [int(line[0]) for line in told] == [r.digit for r in readings], name
        for line, reading in zip(told, readings, strict=True):
            box = np.array(json.loads(line.split(" at ")[1]))
            extent = max(np.ptp(reading.box[::2]), np.ptp(reading.box[1::2]))
            assert np.abs(box - reading.box).max() <= 1 + 0.1 * extent, name


def test_readme_script_reads_what_was_written(script, digits):
    """Most digits of a row in uneven light are read right, not only all alike."""
    draw_pictures(script, digits)
    told = python(script, "read_digits.py", "photo.jpg").splitlines()
    assert sum(int(line[0]) == i for i, line in enumerate(told)) >= 9, told


def test_readme_script_refuses_what_is_no_model(script, digits):
    """An error in the last line; no code in the file is run."""
    Image.fromarray(255 - digits[0].numpy()).save(script / "digit.png")
    trace = script / "ran"
    bomb = pickle.dumps({"fc1.weight": Bomb(trace)}, protocol=2)
    for content in (b"", committed("model.pth")[:-1000], bomb):
        (script / "model.pth").write_bytes(content)
        assert refused(script, "digit.png")
    assert not trace.exists()
    (script / "model.pth").unlink()
    assert "model.pth" in refused(script, "digit.png")


def test_readme_script_refuses_what_is_no_picture(script):
    (script / "digit.png").write_text("no picture")
    for name in ("digit.png", "missing.png"):
        assert name in refused(script, name)
    Image.new("L", (300, 200), 240).save(script / "blank.png")
    assert "no ink" in refused(script, "blank.png")


def test_readme_recipe_is_the_notebook(nb, folder, digits):
    """The second script takes the reader out of the notebook: the same to the last."""
    (folder / NOTEBOOK).write_bytes(committed(NOTEBOOK))
    model = nb.load_model(folder / "model.pth")
    draw_pictures(folder, digits)
    for name in ("photo.jpg", "clear.png", "number.jpg"):
        recipe = readme_scripts()[1].replace("photo.jpg", name)
        (folder / "own.py").write_text(recipe, encoding="utf-8")
        told = python(folder, "own.py").splitlines()
        assert told == [
            f"{r.digit} {r.probability:.1%} {r.box} {r.sure}"
            for r in nb.read_digits(folder / name, model)
        ]


def test_readme_class_loads_the_model(folder):
    """The third script: the network alone, with one blank image."""
    show = "print(model.training, probabilities.shape, probabilities.sum().item())"
    script = readme_scripts()[2] + f"\n{show}\n"
    (folder / "own.py").write_text(script, encoding="utf-8")
    training, shape, total = re.match(
        r"(\w+) (.*) (\S+)", python(folder, "own.py")
    ).groups()
    assert (training, shape) == ("False", "torch.Size([1, 10])")
    assert float(total) == pytest.approx(1)


def test_own_class_and_two_lines(folder, digits):
    """`model.load_state_dict(torch.load("model.pth")); model.eval()` is enough."""
    (folder / "own.py").write_text(OWN_CLASS, encoding="utf-8")
    np.save(folder / "images.npy", digits.numpy())
    assert python(folder, "own.py") == ""
    golden = json.loads(committed("tests/golden.json"))
    logits = np.load(folder / "logits.npy")
    np.testing.assert_allclose(logits, golden["logits"], atol=1e-4, rtol=0)


def test_golden_pair(nb, folder, digits):
    """The notebook's own class gives the logits that it gave when it was saved."""
    golden = json.loads(committed("tests/golden.json"))
    model = nb.load_model(folder / "model.pth")
    inputs = (digits.unsqueeze(1) / 255 - 0.1307) / 0.3081
    with torch.no_grad():
        logits = model(inputs)
    expected = torch.tensor(golden["logits"])
    assert (logits - expected).abs().max() < 1e-4
    assert logits.argmax(1).tolist() == golden["answers"]

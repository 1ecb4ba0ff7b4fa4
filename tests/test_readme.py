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
from notebook import NOTEBOOK, ROOT, committed
from PIL import Image
from test_model import Bomb

HEADING = "## Use model.pth in your own script"

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


def readme_scripts():
    """The Python blocks below the heading."""
    readme = committed("README.md").decode("utf-8")
    assert HEADING in readme
    chapter = readme.split(HEADING, 1)[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", chapter, flags=re.S)


@pytest.fixture
def reader(folder):
    """The same folder with README's script, and the notebook that it wants."""
    (folder / NOTEBOOK).write_bytes(committed(NOTEBOOK))
    (folder / "read_digits.py").write_text(readme_scripts()[0], encoding="utf-8")
    return folder


def test_readme_script_reads_a_digit(reader, digits):
    """Pictures of digits, eight times as large and dark on white."""
    labels, answers = [0, 3, 6, 9], []
    for label in labels:
        ink = Image.fromarray(255 - digits[label].numpy())
        ink.resize((224, 224), Image.Resampling.BICUBIC).save(reader / "digit.png")
        told = python(reader, "read_digits.py", "digit.png")
        answers.append(int(re.match(r"\d", told).group()))
    assert sum(a == b for a, b in zip(answers, labels, strict=True)) >= 3, answers


def test_readme_script_refuses_what_is_no_model(reader, digits):
    """With a clear error in the last line; no code in the file is run."""
    Image.fromarray(255 - digits[0].numpy()).save(reader / "digit.png")
    trace = reader / "ran"
    bomb = pickle.dumps({"fc1.weight": Bomb(trace)}, protocol=2)
    for content in (b"", committed("model.pth")[:-1000], bomb):
        (reader / "model.pth").write_bytes(content)
        command = [sys.executable, "read_digits.py", "digit.png"]
        done = subprocess.run(command, cwd=reader, capture_output=True, text=True)
        assert done.returncode != 0
        assert "model.pth" in done.stderr and "Traceback" not in done.stderr
    assert not trace.exists()


def test_readme_script_refuses_what_is_no_picture(reader):
    (reader / "digit.png").write_text("no picture")
    for name in ("digit.png", "missing.png"):
        command = [sys.executable, "read_digits.py", name]
        done = subprocess.run(command, cwd=reader, capture_output=True, text=True)
        assert done.returncode != 0
        assert name in done.stderr and "Traceback" not in done.stderr


def test_readme_class_loads_the_model(folder):
    """The second script: the network alone, with one blank image."""
    show = "print(model.training, probabilities.shape, probabilities.sum().item())"
    script = readme_scripts()[1] + f"\n{show}\n"
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


def test_readme_script_reads_as_the_notebook_does(nb, reader, digits):
    """The same digits, boxes and doubts for a page, a drawing and one digit."""
    Image.fromarray(255 - digits[3].numpy()).resize((112, 112)).save(reader / "one.png")
    Image.fromarray(np.hstack(digits[:5].numpy())).save(reader / "row.png")
    (reader / "number.jpg").write_bytes((ROOT / "img" / "number.jpg").read_bytes())
    model = nb.load_model(reader / "model.pth")
    for name in ("one.png", "row.png", "number.jpg"):
        told = python(reader, "read_digits.py", name).strip().splitlines()
        readings = nb.read_digits(reader / name, model)
        assert len(told) == len(readings)
        for line, reading in zip(told, readings, strict=True):
            assert line.startswith(f"{reading.digit}  {reading.probability:.1%}")
            assert str(reading.box) in line
            assert ("not sure" in line) != reading.sure

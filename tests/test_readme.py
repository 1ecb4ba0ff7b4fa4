"""model.pth in somebody else's script."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import SAMPLE
from golden import first_of_each_class
from notebook import committed
from PIL import Image

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


def readme_script():
    """The first Python block below the heading."""
    readme = committed("README.md").decode("utf-8")
    assert HEADING in readme
    chapter = readme.split(HEADING, 1)[1].split("\n## ")[0]
    return re.search(r"```python\n(.*?)```", chapter, flags=re.S).group(1)


def test_readme_script_reads_a_digit(folder, digits):
    """Pictures of digits, eight times as large and dark on white."""
    (folder / "read_digit.py").write_text(readme_script(), encoding="utf-8")
    labels, answers = [0, 3, 6, 9], []
    for label in labels:
        ink = Image.fromarray(255 - digits[label].numpy()).resize(
            (224, 224), Image.Resampling.BICUBIC
        )
        ink.save(folder / "digit.png")
        told = python(folder, "read_digit.py", "digit.png")
        answers.append(int(re.search(r"\d", told).group()))
    assert sum(a == b for a, b in zip(answers, labels, strict=True)) >= 3, answers


def test_readme_script_refuses_a_broken_file(folder, digits):
    """A clear error, and no code in the file is run."""
    (folder / "read_digit.py").write_text(readme_script(), encoding="utf-8")
    Image.fromarray(255 - digits[0].numpy()).save(folder / "digit.png")
    for content in (b"", committed("model.pth")[:-1000]):
        (folder / "model.pth").write_bytes(content)
        command = [sys.executable, "read_digit.py", "digit.png"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode != 0
        assert "model.pth" in done.stderr.splitlines()[-1]


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

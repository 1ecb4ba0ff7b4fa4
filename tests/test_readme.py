"""model.pth in somebody else's script."""

import json
import re
import subprocess
import sys

import pytest
import torch
from notebook import NOTEBOOK, committed
from PIL import Image, ImageOps

README = committed("README.md").decode("utf-8")
CHAPTER = README.split("## Use model.pth in your own script")[1].split("\n## ")[0]
RECIPE, CLASS = re.findall(r"```python\n(.*?)```", CHAPTER, flags=re.S)


@pytest.fixture
def folder(tmp_path, sample):
    """What a user would copy: model.pth, the notebook, a picture of ten digits."""
    for name in ("model.pth", NOTEBOOK):
        (tmp_path / name).write_bytes(committed(name))
    row = torch.cat(list(sample.test_images[::100]), 1).numpy()
    sheet = Image.fromarray(235 - row // 4 * 3).resize((1120, 112))
    ImageOps.expand(sheet, 60, 235).save(tmp_path / "photo.jpg")
    return tmp_path


def python(folder, script, *arguments):
    """Run a script there; any warning is an error."""
    (folder / "script.py").write_text(script, encoding="utf-8")
    command = [sys.executable, "-W", "error", "script.py", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_recipe_reads_as_the_notebook_does(nb, folder):
    done = python(folder, RECIPE, "photo.jpg")
    readings = nb.read_digits(folder / "photo.jpg", nb.load_model(folder / "model.pth"))
    lines = done.stdout.splitlines()
    assert done.stderr == "" and len(lines) == len(readings) == 10
    for line, reading in zip(lines, readings, strict=True):
        assert line.startswith(f"{reading.digit} {reading.probability:.1%}")
        assert str(reading.box) in line and ("not sure" in line) != reading.sure


def test_recipe_ends_with_a_message(folder):
    """A line that says what is missing, and no traceback."""
    book = json.loads((folder / NOTEBOOK).read_text(encoding="utf-8"))
    (folder / "no_picture.jpg").write_text("<html>")

    def check(said, *arguments):
        done = python(folder, RECIPE, *arguments)
        assert done.returncode != 0 and done.stdout == ""
        assert re.fullmatch(f".*{said}.*\n", done.stderr), done.stderr

    check("usage: python")
    check("no.jpg", "no.jpg")
    check("JPEG or PNG", "no_picture.jpg")
    (folder / "model.pth").unlink()
    check("model.pth", "photo.jpg")
    for cell in book["cells"]:
        cell["metadata"] = {}
    (folder / NOTEBOOK).write_text(json.dumps(book), encoding="utf-8")
    check("tags", "photo.jpg")


def test_class_loads_the_model_alone(folder):
    (folder / NOTEBOOK).unlink()
    done = python(folder, CLASS)
    assert done.stderr == "" and re.fullmatch(r"1 \d+\.\d%\n", done.stdout)


def test_notebook_and_stranger_agree_on_the_committed_model(nb, folder, sample):
    """So normalisation, classes and file still mean the same to both."""
    w = list(torch.load(folder / "model.pth").values())
    theirs = (sample.test_images.flatten(1) / 255 - 0.1307) / 0.3081
    theirs = (theirs @ w[0].T + w[1]).relu() @ w[2].T + w[3]
    theirs = theirs.relu() @ w[4].T + w[5]
    ours = nb.load_model(folder / "model.pth")(nb.normalise(sample.test_images))
    assert torch.allclose(ours, theirs, atol=1e-3)
    assert (theirs.argmax(1) == sample.test_labels).float().mean() >= 0.99

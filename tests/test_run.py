"""The notebook executed on the sample, in a folder of its own, without a network."""

import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient
from notebook import NOTEBOOK, ROOT, committed
from test_committed import check_clean

SHORT = """
SOFTMAX_EPOCHS, PLAIN_EPOCHS, WARPED_EPOCHS, CNN_EPOCHS = 1, 2, 3, 1
TRIAL_EPOCHS, LONG_TRIAL_EPOCHS = 2, 2
"""


def environment(**more):
    """Without MNIST and without a network; figures as in Jupyter."""
    changed = ("MNIST_ROOT", "MPLBACKEND", "NO_PROXY", "HTTP_PROXY", "HTTPS_PROXY")
    env = {n: value for n, value in os.environ.items() if n.upper() not in changed}
    closed = "http://127.0.0.1:9"
    return {**env, "http_proxy": closed, "https_proxy": closed, **more}


def place(folder, *names):
    """The folder with copies of some of the project's, and the committed model.pth."""
    for name in names:
        shutil.copytree(ROOT / name, folder / name)
    (folder / "model.pth").write_bytes(committed("model.pth"))
    return folder


def code(content):
    return [cell for cell in content.cells if cell.cell_type == "code"]


def source(short=True):
    """The notebook of the working tree without outputs, with a few epochs only."""
    content = nbformat.read(ROOT / NOTEBOOK, as_version=4)
    for cell in code(content):
        cell.outputs, cell.execution_count = [], None
        if short and "parameters" in cell.metadata.get("tags", []):
            cell.source += SHORT
    return content


def execute(content, folder):
    """Run it in that folder; it is changed in place."""
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(content, timeout=600, resources=where).execute(env=environment())


def said(cell):
    """The outputs of a cell; seconds, which differ from run to run, made equal."""
    text = "".join(o.text for o in cell.outputs if o.output_type == "stream")
    for output in cell.outputs:
        for kind, value in sorted(output.get("data", {}).items()):
            if "| seconds |" in value:  # the last column of a table
                value = re.sub(r"[^|]*\|$", "", value, flags=re.M)
            text += f"\n{kind}: {value}"
    return re.sub(r"\b\d+ s\b", "# s", text)


def files(folder):
    """All files below a folder and their bytes, but for notebooks."""
    found = (f for f in folder.rglob("*") if f.is_file() and f.suffix != ".ipynb")
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in found}


def test_whole_notebook(tmp_path):
    """It says that it is the sample, and saves its model beside the committed one."""
    before, content = files(place(tmp_path, "data/sample", "img")), source(short=False)
    execute(content, tmp_path)
    check_clean(content)
    told, after = "\n".join(map(said, code(content))), files(tmp_path)
    for line in (
        "MNIST, sample: ",
        "**Sample.**",
        "logits equal to the last bit: True",
    ):
        assert line in told
    changed = {name for name in after if after[name] != before.get(name)}
    assert {"model_sample.pth"} <= changed <= {"model_sample.pth", "img/reading.png"}


def test_your_own_digits_only(tmp_path):
    """Chapters 1, 10 and 11 and the class of 5, with model.pth and without MNIST."""
    before, content = files(place(tmp_path, "img")), source()
    chapter, cells = "", []
    for cell in content.cells:
        chapter = [chapter, *re.findall(r"^## (\d+)\.", cell.source, flags=re.M)][-1]
        wanted = chapter in ("1", "10", "11") or "class DigitClassifier" in cell.source
        cells += [cell] if wanted and cell.cell_type == "code" else []
    content.cells = cells
    execute(content, tmp_path)
    check_clean(content)
    after = files(tmp_path)
    assert after | {"img/reading.png": before["img/reading.png"]} == before


@pytest.mark.slow
def test_small_machine_and_each_cell_twice(tmp_path):
    """README's command with one core and no home folder; then elsewhere, each cell
    twice in a row: its second run says and saves the same.
    """
    small, large = (place(tmp_path / name, "data/sample", "img") for name in "12")
    nbformat.write(source(), small / NOTEBOOK)
    command = [sys.executable, *f"-m jupyter execute {NOTEBOOK} --output=my".split()]
    if taskset := shutil.which("taskset"):
        command = [taskset, "--cpu-list", str(min(os.sched_getaffinity(0))), *command]
    env = environment(HOME="/nowhere/at/all")
    subprocess.run(command, cwd=small, env=env, check=True)
    once, twice = nbformat.read(small / "my.ipynb", as_version=4), source()
    check_clean(once)
    twice.cells = [cell.copy() for cell in code(twice) for _ in range(2)]
    execute(twice, large)
    for expected, cell in zip(code(once), twice.cells[1::2], strict=True):
        assert said(cell) == said(expected)
    assert files(large) == files(small)

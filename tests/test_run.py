"""The notebook executed on the sample, without a network: where people run it."""

import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from conftest import SAMPLE
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from notebook import NOTEBOOK, ROOT, committed
from test_committed import check_clean, outputs

SHORT = {
    "SOFTMAX_EPOCHS": 1,
    "PLAIN_EPOCHS": 2,
    "TRIAL_EPOCHS": 1,
    "RATE_EPOCHS": 1,
    "RATES": "(0.006, 0.012)",
    "WARPED_EPOCHS": 4,
    "CNN_EPOCHS": 1,
}
JUPYTER = [sys.executable, "-m", "jupyter"]
CONVERT = [*JUPYTER, "nbconvert", NOTEBOOK, "--to"]
EXECUTE = [*CONVERT, "notebook", "--execute", "--output=my_run"]
ASCII = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}


def environment(**more):
    """Without MNIST and without a network; figures as in Jupyter."""
    changed = ("MNIST_ROOT", "MPLBACKEND", "NO_PROXY", "HTTP_PROXY", "HTTPS_PROXY")
    env = {n: value for n, value in os.environ.items() if n.upper() not in changed}
    closed = "http://127.0.0.1:9"
    return {**env, "http_proxy": closed, "https_proxy": closed, **more}


def place(folder, *names):
    """The folder with copies of some of the project's, and a model.pth."""
    for name in names:
        shutil.copytree(ROOT / name, folder / name)
    (folder / "model.pth").write_bytes(committed("model.pth"))
    return folder


def code(content):
    return [cell for cell in content.cells if cell.cell_type == "code"]


def source(short=True):
    """The notebook of the working tree without outputs, with a few epochs only."""
    content = nbformat.read(ROOT / NOTEBOOK, as_version=4)
    missing = set(SHORT)
    for cell in code(content):
        cell.outputs, cell.execution_count = [], None
        if short and "parameters" in cell.metadata.get("tags", []):
            settings = r"^(?:[A-Z_]+, )*{}(?:, [A-Z_]+)* = "
            here = {
                n for n in missing if re.search(settings.format(n), cell.source, re.M)
            }
            missing -= here
            cell.source += "".join(f"\n{name} = {SHORT[name]}" for name in sorted(here))
    assert not (short and missing), missing
    return content


def chapters(content):
    """Of each code cell the number of its chapter."""
    number, found = 0, []
    for cell in content.cells:
        if cell.cell_type == "code":
            found.append(number)
        elif heading := re.findall(r"^## (\d+)\.", cell.source, flags=re.M):
            number = int(heading[-1])
    return found


def said(cell):
    """The outputs of a cell; seconds, which differ from run to run, made equal."""
    text = "".join(o.text for o in cell.outputs if o.output_type == "stream")
    for output in cell.outputs:
        for kind, value in sorted(output.get("data", {}).items()):
            if "<th>seconds</th>" in value:  # the last column of a table
                value = re.sub(r"<td>\d+</td>\s*</tr>", "", value)
            if kind != "text/plain" or "text/html" not in output.data:
                text += f"\n{kind}: {value}"
    return re.sub(r"\b\d+ s\b", "# s", text)


def figures(content):
    return sum("image/png" in output.get("data", {}) for output in outputs(content))


def files(folder):
    """All files below a folder and their bytes, but for notebooks."""
    found = (f for f in folder.rglob("*") if f.is_file() and f.suffix != ".ipynb")
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in found}


# --- one kernel: all of it, some of it again, a training that is stopped ------------


class Session:
    """The short notebook in a running kernel, in a folder with sample and img."""

    def __init__(self, folder):
        self.folder, self.content = place(folder, "data/sample", "img"), source()
        self.before, self.chapters = files(folder), chapters(self.content)
        self.content.cells = code(self.content)
        self.cells = [cell.copy() for cell in self.content.cells]
        where = {"metadata": {"path": str(folder)}}
        self.client = NotebookClient(self.content, timeout=600, resources=where)

    def run(self, cell):
        """Run a copy of this cell after all the others, and return it."""
        self.content.cells.append(nbformat.v4.new_code_cell(cell.source))
        index = len(self.content.cells) - 1
        return self.client.execute_cell(self.content.cells[-1], index)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    session = Session(tmp_path_factory.mktemp("session"))
    with session.client.setup_kernel(env=environment()):
        for index, cell in enumerate(session.content.cells):
            session.client.execute_cell(cell, index)
        session.first = [said(cell) for cell in session.content.cells]
        check_clean(session.content)
        yield session


def test_whole_notebook_on_the_sample(session):
    """It says so, and saves its model beside the other one."""
    told = "\n".join(session.first)
    for line in ("MNIST, sample: ", "SAMPLE", "logits equal to the last bit: True"):
        assert line in told
    after = files(session.folder)
    changed = {name for name in after if after[name] != session.before.get(name)}
    assert changed == {"model_sample.pth"} and set(after) > set(session.before)


@pytest.mark.parametrize("chapter", [10, 6, 3])
def test_from_any_chapter_on(session, chapter):
    """Everything from there on, again in the same kernel, says and saves the same."""
    before = files(session.folder)
    for number, cell, first in zip(session.chapters, session.cells, session.first):
        if number >= chapter:
            assert said(session.run(cell)) == first, cell.source
    assert files(session.folder) == before


STOP = """
mnist_kind = "full"  # so that model.pth is at stake

def predict(*_):  # somebody stops it after an epoch
    raise KeyboardInterrupt

del warped_mlp, warped_history
"""


def test_stopped_training_leaves_nothing(session):
    """No name is bound, and chapter 11 saves nothing. Comes last: it breaks things."""
    before = files(session.folder)
    session.run(nbformat.v4.new_code_cell(STOP))
    for start, error in (
        (r"warped_mlp, \w+ = train\(", "KeyboardInterrupt"),
        (r"save_model\(warped_mlp", "NameError.*warped_mlp"),
    ):
        pattern = re.compile(f"^{start}", re.M)
        (cell,) = (cell for cell in session.cells if pattern.search(cell.source))
        with pytest.raises(CellExecutionError, match=f"(?s){error}"):
            session.run(cell)
    assert files(session.folder) == before


# --- one file and a terminal ---------------------------------------------------------


@pytest.fixture(scope="module")
def terminal(tmp_path_factory):
    """README's command on the one file in an empty folder, where text isn't UTF-8.

    MNIST_ROOT names the sample, which lies elsewhere. Its stderr, and what it leaves.
    """
    folder, data = (tmp_path_factory.mktemp(name) for name in ("one_file", "data"))
    nbformat.write(source(), folder / NOTEBOOK)
    root = shutil.copytree(SAMPLE, data / "mnist")
    env = environment(MNIST_ROOT=str(root), HOME="/nowhere/at/all", **ASCII)
    encoding = [sys.executable, "-c", "import locale; print(locale.getencoding())"]
    if sys.version_info >= (3, 11) and os.name == "posix":
        assert b"UTF-8" not in subprocess.check_output(encoding, env=env)
    done = subprocess.run(EXECUTE, cwd=folder, env=env, stderr=subprocess.PIPE)
    stderr = done.stderr.decode("utf-8", "replace")
    assert done.returncode == 0, stderr[-3000:]
    return folder, root, stderr


def test_one_file_in_an_empty_folder(terminal):
    """All figures and signs are there; it leaves a model and nothing else."""
    folder, root, _ = terminal
    content = nbformat.read(folder / "my_run.ipynb", as_version=4)
    check_clean(content)
    shown = sum(len(re.findall(r"plt\.show\(\)", c.source)) for c in code(content))
    assert figures(content) == shown > 10
    assert [c.source for c in content.cells] == [c.source for c in source().cells]
    assert re.search(r"\d → \d", "".join(map(said, code(content))))
    assert set(files(folder)) == {"model_sample.pth"}
    assert files(root) == files(SAMPLE)
    assert {p.name for p in folder.iterdir() if p.is_dir()} == set()


def test_the_terminal_is_told(terminal):
    """Every call of `tell` and every training is heard; the notebook has no trace."""
    folder, _, stderr = terminal
    content = nbformat.read(folder / "my_run.ipynb", as_version=4)
    calls = re.findall(
        r"\btell\(\s*f?\"([^\"{]+)", "".join(c.source for c in code(content))
    )
    assert calls and not [text for text in calls if text not in stderr]
    told = re.findall(r"([^:|\n]*): epoch (\d+) of \2,", stderr)
    said_in_notebook = "\n".join(map(said, code(content)))
    shown = re.findall(r"plain: ([^:\n]*): epoch (\d+) of \2,", said_in_notebook)
    assert len(shown) >= 10
    assert [(name.strip(), epochs) for name, epochs in told] == shown


# --- slow ----------------------------------------------------------------------------


@pytest.mark.slow
def test_plain_python(tmp_path):
    """As a script: the same model, the progress on stderr."""
    nbformat.write(source(), place(tmp_path, "data/sample") / NOTEBOOK)
    subprocess.run([*CONVERT, "script"], cwd=tmp_path, check=True)
    (script,) = tmp_path.glob("Digit_Classifier.[tp]*")
    command = [sys.executable, script.name]
    env = environment(MPLBACKEND="agg")
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert b"logits equal to the last bit: True" in done.stdout
    assert b"MLP, warped: epoch 4 of 4" in done.stderr
    assert (tmp_path / "model_sample.pth").is_file()


@pytest.mark.slow
def test_small_machine_and_each_cell_twice(tmp_path):
    """README's command with one core and no home folder; then elsewhere, each cell
    twice in a row: its second run says and saves the same.
    """
    small, large = (place(tmp_path / name, "data/sample", "img") for name in "12")
    nbformat.write(source(), small / NOTEBOOK)
    command = EXECUTE
    if taskset := shutil.which("taskset"):
        command = [taskset, "--cpu-list", str(min(os.sched_getaffinity(0))), *command]
    env = environment(HOME="/nowhere/at/all")
    subprocess.run(command, cwd=small, env=env, check=True)
    once, twice = nbformat.read(small / "my_run.ipynb", as_version=4), source()
    check_clean(once)
    twice.cells = [cell.copy() for cell in code(twice) for _ in range(2)]
    where = {"metadata": {"path": str(large)}}
    NotebookClient(twice, timeout=600, resources=where).execute(env=environment())
    for expected, cell in zip(code(once), twice.cells[1::2], strict=True):
        assert said(cell) == said(expected)
    assert files(large) == files(small)

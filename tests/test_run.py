"""The notebook executed on the sample, in a folder of its own."""

import os
import re
import shutil
import subprocess
import sys
import time

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from notebook import NOTEBOOK, ROOT, committed

SECONDS = re.compile(r"\b\d[\d.,]* s\b")
SHORT = """
SOFTMAX_EPOCHS, PLAIN_EPOCHS, WARPED_EPOCHS, CNN_EPOCHS = 1, 1, 2, 1
TRIAL_EPOCHS, LONG_TRIAL_EPOCHS = 1, 1
"""
KILL = "os.kill(os.getpid(), 9)"


# --- helpers -------------------------------------------------------------------


def place(folder, **files):
    """What a clone has: the notebook, the sample, the pictures; and `files`."""
    folder.mkdir(exist_ok=True)
    shutil.copytree(ROOT / "data" / "sample", folder / "data" / "sample")
    if (ROOT / "img").exists():
        shutil.copytree(ROOT / "img", folder / "img")
    for name, content in files.items():
        (folder / f"{name}.pth").write_bytes(content)
    return folder


def environment(**more):
    """Without MNIST, without a network; figures as in Jupyter."""
    env = {k: v for k, v in os.environ.items() if k.lower() != "no_proxy"}
    for name in ("MNIST_ROOT", "MPLBACKEND", "PYTEST_CURRENT_TEST"):
        env.pop(name, None)
    for name in ("http_proxy", "https_proxy"):
        env[name] = env[name.upper()] = "http://127.0.0.1:9"
    return {**env, **more}


def source():
    """The notebook as it lies in the working tree, without outputs."""
    content = nbformat.read(ROOT / NOTEBOOK, as_version=4)
    for cell in content.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return content


def execute(content, folder, env=None, **options):
    """Run a notebook in a folder; it is changed in place, and handed back."""
    client = NotebookClient(
        content,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        **options,
    )
    client.execute(env=env or environment())
    return content


def code(content):
    return [cell for cell in content.cells if cell.cell_type == "code"]


def shorten(content):
    """A few epochs instead of hundreds."""
    settings = [c for c in code(content) if "parameters" in c.metadata.get("tags", [])]
    assert len(settings) == 1
    settings[0].source += SHORT
    return content


def only(content, chapters):
    """The cells of some chapters; what stands before the first heading stays."""
    cells, chapter = [], None
    for cell in content.cells:
        if cell.cell_type == "markdown":
            for number in re.findall(r"^## (\d+)\.", cell.source, flags=re.M):
                chapter = int(number)
        if chapter is None or chapter in chapters:
            cells.append(cell)
    content.cells = cells
    return content


def find(content, pattern):
    """The number of the one cell whose code matches."""
    found = [
        i
        for i, cell in enumerate(content.cells)
        if cell.cell_type == "code" and re.search(pattern, cell.source)
    ]
    assert len(found) == 1, pattern
    return found[0]


def before(content, pattern, source):
    """Put a code cell before the one that matches."""
    content.cells.insert(find(content, pattern), nbformat.v4.new_code_cell(source))
    return content


def outputs(content):
    return [output for cell in code(content) for output in cell.outputs]


def texts(content):
    """Each output as text; seconds, which differ from run to run, made equal."""
    for output in outputs(content):
        if output.output_type == "stream":
            yield SECONDS.sub("# s", output.text)
            continue
        text = output.data.get("text/markdown") or output.data.get("text/plain", "")
        if "| seconds |" in text:
            text = re.sub(r"[^|]*\|$", "", text, flags=re.M)
        yield SECONDS.sub("# s", text)
        yield str(output.metadata.get("image/png", {}).get("alt"))


def files(folder):
    """All files below a folder and their bytes, apart from the notebook's data."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and "sample/MNIST" not in file.as_posix()
    }


# --- the whole notebook, twice ---------------------------------------------------


def run(folder):
    """A whole run on the sample: folder, notebook and seconds."""
    place(folder, model=b"not to be touched")
    start = time.perf_counter()
    content = execute(source(), folder)
    return folder, content, time.perf_counter() - start


@pytest.fixture(scope="session")
def first_run(tmp_path_factory):
    return run(tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="session")
def runs(first_run, tmp_path_factory):
    return first_run, run(tmp_path_factory.mktemp("second"))


def test_runs_without_error_or_stderr(runs):
    for _, content, _ in runs:
        kinds = {output.output_type for output in outputs(content)}
        assert kinds <= {"stream", "display_data", "execute_result"}
        errors = [o.text for o in outputs(content) if o.get("name") == "stderr"]
        assert errors == []


def test_says_that_it_is_the_sample(runs):
    for _, content, _ in runs:
        told = "\n".join(texts(content))
        assert "MNIST, sample: " in told
        assert "**Sample figures.**" in told


def test_saves_beside_the_committed_model(runs):
    """New: model_sample.pth and figures in img_sample; all else is as it was."""
    for folder, _, _ in runs:
        new = files(folder)
        assert new.pop("model.pth") == b"not to be touched"
        assert len(new.pop("model_sample.pth")) > 4 * 109_386
        for name in list(new):
            if name.startswith("img_sample/"):
                assert new.pop(name)[:4] == b"\x89PNG"
        old = {f"img/{p.name}": p.read_bytes() for p in (ROOT / "img").glob("*")}
        readme = ROOT / "data" / "sample" / "README.md"
        assert new == {"data/sample/README.md": readme.read_bytes(), **old}


def test_same_outputs_twice(runs):
    (_, first, _), (_, second, _) = runs
    # joined, since a stream may arrive in one piece or in two
    assert "".join(texts(first)).splitlines() == "".join(texts(second)).splitlines()


def test_same_pictures_twice(runs):
    (_, first, _), (_, second, _) = runs
    pictures = [
        [o.data["image/png"] for o in outputs(run) if "image/png" in o.get("data", {})]
        for run in (first, second)
    ]
    assert pictures[0] and pictures[0] == pictures[1]


def test_same_model_twice(runs):
    (first, _, _), (second, _, _) = runs
    model = (first / "model_sample.pth").read_bytes()
    assert model == (second / "model_sample.pth").read_bytes()


def test_saved_model_is_the_trained_one(runs):
    """The notebook's own comparison, and its checksum."""
    for _, content, _ in runs:
        told = "\n".join(texts(content))
        assert "logits equal to the last bit: True" in told


# --- other ways through it -------------------------------------------------------


@pytest.mark.slow
def test_each_cell_twice_in_a_row(first_run, tmp_path):
    content = source()
    twice = []
    for cell in content.cells:
        twice.append(cell)
        if cell.cell_type == "code":
            twice.append(nbformat.v4.new_code_cell(cell.source))
    content.cells = twice
    place(tmp_path)
    execute(content, tmp_path)
    model = (tmp_path / "model_sample.pth").read_bytes()
    assert model == (first_run[0] / "model_sample.pth").read_bytes()


@pytest.mark.slow
def test_chapters_without_training(tmp_path):
    """1 to 5, 10 and 11 work with the committed model, and leave it alone."""
    model = committed("model.pth")
    place(tmp_path, model=model)
    content = only(source(), {1, 2, 3, 4, 5, 10, 11})
    find(content, r"load_model\(model_path\)")
    find(content, r"def read_digits")
    execute(content, tmp_path)
    assert (tmp_path / "model.pth").read_bytes() == model
    assert not (tmp_path / "model_sample.pth").exists()
    assert not [o for o in outputs(content) if o.get("name") == "stderr"]


SAVING = r"^    save_model\("
TRAINING = r"^mlp_history = fit\("


@pytest.mark.slow
@pytest.mark.parametrize("when", ["training", "saving"])
def test_killed_kernel(tmp_path, when):
    """The old files are intact; the next run works and leaves nothing half done."""
    old = {"model": b"the committed one", "model_sample": b"the last run's"}
    place(tmp_path, **old)
    content = shorten(source())
    if when == "training":
        spy = f"def progress(*_):\n    {KILL}"
        before(content, "(?m)" + TRAINING, spy)
    else:
        spy = f"def save(state, file):\n    file.write_bytes(b'half')\n    {KILL}"
        before(content, "(?m)" + SAVING, f"{spy}\n\n\ntorch.save = save")
    with pytest.raises(DeadKernelError):
        execute(content, tmp_path)
    for name, bytes_ in old.items():
        assert (tmp_path / f"{name}.pth").read_bytes() == bytes_
    half = {path.name for path in tmp_path.glob("*.tmp")}
    assert half == (set() if when == "training" else {"model_sample.tmp"})

    execute(shorten(source()), tmp_path)
    assert (tmp_path / "model.pth").read_bytes() == old["model"]
    assert (tmp_path / "model_sample.pth").stat().st_size > 4 * 109_386
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.slow
def test_interrupted_training(tmp_path):
    """It stops at once, and the kernel goes on with the next cell."""
    place(tmp_path)
    content = shorten(source())
    training = find(content, "(?m)" + TRAINING)
    interrupt = (
        "import signal\n"
        "WARPED_EPOCHS = 100_000\n"
        "def interrupt():\n"
        "    global began\n"
        "    began = time.perf_counter()\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "threading.Timer(3, interrupt).start()\n"
    )
    took = nbformat.v4.new_code_cell("print(time.perf_counter() - began)")
    content.cells[training + 1 :] = [took]
    content.cells.insert(training, nbformat.v4.new_code_cell(interrupt))
    execute(content, tmp_path, allow_errors=True)
    errors = [o.ename for o in outputs(content) if o.output_type == "error"]
    assert errors == ["KeyboardInterrupt"]
    assert 0 < float(took.outputs[0].text) < 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, sets the affinity")
def test_small_machine(tmp_path):
    """One core, no home folder, 2 GB: on all of MNIST where MNIST_ROOT names it."""
    place(tmp_path)
    content = shorten(source())
    first, last = (
        "import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})",
        "print(Path('/proc/self/status').read_text())",
    )
    content.cells.insert(0, nbformat.v4.new_code_cell(first))
    content.cells.append(nbformat.v4.new_code_cell(last))
    home = tmp_path / "home"
    home.write_text("no folder can be made here")
    more = {"HOME": str(home)}
    if "MNIST_ROOT" in os.environ:
        more["MNIST_ROOT"] = str(ROOT / os.environ["MNIST_ROOT"])
    execute(content, tmp_path, environment(**more))
    status = content.cells[-1].outputs[0].text
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) * 1024 / 1e9
    print(f"peak resident memory {peak:.2f} GB")
    assert peak < 2
    assert re.search(r"Cpus_allowed_list:\s+\d+\n", status)


@pytest.mark.slow
def test_jupyter_execute(tmp_path):
    """The command of the README, in a process of its own."""
    place(tmp_path)
    nbformat.write(shorten(source()), tmp_path / NOTEBOOK)
    command = [sys.executable, "-m", "jupyter", "execute", NOTEBOOK, "--output=done"]
    subprocess.run(command, cwd=tmp_path, env=environment(), check=True)
    assert (tmp_path / "done.ipynb").stat().st_size > 100_000

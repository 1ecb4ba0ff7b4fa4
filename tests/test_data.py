"""Where the digits come from, and how they are handed out."""

import errno
import functools
import gzip
import hashlib
import shutil
import socket
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from conftest import SAMPLE, full_disk

RAW = SAMPLE / "MNIST" / "raw"
FILES = sorted(file.name for file in RAW.iterdir())  # test images, labels, training
OTHER = dict(zip(FILES, FILES[2:] + FILES[:2]))  # of the other part


@pytest.fixture
def mirror(nb, monkeypatch, tmp_path_factory):
    """The folder of a mirror on this machine, the only one that torchvision knows.

    For the full set stands the sample with its training and test part exchanged.
    """
    folder, checksums = tmp_path_factory.mktemp("mirror"), []
    handler = functools.partial(SimpleHTTPRequestHandler, directory=folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    for name, exchanged in OTHER.items():
        zipped = gzip.compress((RAW / exchanged).read_bytes(), 1, mtime=0)
        (folder / f"{name}.gz").write_bytes(zipped)
        checksums.append((f"{name}.gz", hashlib.md5(zipped).hexdigest()))
    monkeypatch.setattr(nb.datasets.MNIST, "resources", checksums)
    url = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setattr(nb.datasets.MNIST, "mirrors", [url])
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield folder
    server.shutdown()
    server.server_close()


@pytest.fixture
def offline(nb, monkeypatch):
    """Nobody answers at any mirror."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(nb.datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    """Where the notebook runs: an empty folder, but for the sample."""
    folder = tmp_path / "here"
    folder.mkdir()
    shutil.copytree(SAMPLE, folder / "data" / "sample")
    monkeypatch.chdir(folder)
    return folder


def found(folder):
    """The names of all files below a folder."""
    return sorted(file.name for file in folder.rglob("*") if file.is_file())


def loaded(nb, root):
    """`sample`, or `full` where it is the one with its parts exchanged."""
    training, test = nb.load_mnist(root)
    for part in (training, test):
        assert part.data.dtype == torch.uint8 and part.targets.dtype == torch.int64
        assert part.data.shape == (*part.targets.shape, 28, 28)
    return {4000: "sample", 1000: "full"}[len(training)]


# --- what the user has -------------------------------------------------------------


def lay_out(mirror, root, layout):
    """The mirror's files, as people have them."""
    for zipped in sorted(mirror.iterdir()):
        name, content = zipped.stem, gzip.decompress(zipped.read_bytes())
        path = {
            "as torchvision": f"MNIST/raw/{name}",
            "as torchvision, packed": f"MNIST/raw/{name}.gz",
            "flat": name,
            "flat, packed": f"{name}.gz",
            "as Kaggle": f"{name}/{name}",
        }[layout]
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(zipped.read_bytes() if "packed" in layout else content)
        if layout == "as Kaggle":  # which also has each once more, with a dot
            (root / name.replace("-idx", ".idx")).write_bytes(content)


LAYOUTS = ("as torchvision", "as torchvision, packed", "flat", "flat, packed")


@pytest.mark.parametrize("layout", [*LAYOUTS, "as Kaggle"])
def test_what_is_there_is_taken(nb, mirror, offline, monkeypatch, tmp_path, layout):
    """Without a network, from a folder with any name, also below `~`; left as it is."""
    root = tmp_path / "Größe mit Leerzeichen 数字"
    lay_out(mirror, root, layout)
    before = found(root)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for name in (root, str(root), f"~/{root.name}"):
        assert loaded(nb, name) == "full"
    assert found(root) == before


@pytest.mark.parametrize("name", FILES)
def test_damaged_file_stops_the_run(nb, mirror, tmp_path, name):
    """Nothing else is taken in its place, and the message names the folder."""
    root = shutil.copytree(SAMPLE, tmp_path / "mine")
    file = root / "MNIST" / "raw" / name
    content = file.read_bytes()
    for damaged in (
        content[:-1],
        content[:5000] * (len(content) > 5000),
        b"",
        b"<html>",
    ):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged") as caught:
            nb.load_mnist(root)
        assert str(root) in str(caught.value)
        assert file.read_bytes() == damaged


def test_one_changed_pixel_or_label(nb, sample):
    """Is enough, and the message says what to do."""
    tensors = list(vars(sample).values())
    assert nb.which_mnist(*tensors) == "sample"
    for i, tensor in enumerate(tensors):
        changed = tensor.clone()
        changed.view(-1)[-1] += 1
        with pytest.raises(ValueError, match="not MNIST.*delete"):
            nb.which_mnist(*tensors[:i], changed, *tensors[i + 1 :])
    with pytest.raises(ValueError, match="not MNIST"):
        nb.which_mnist(*tensors[2:], *tensors[:2])
    assert sorted(nb.SHA256.values()) == ["full", "sample"]


# --- what is downloaded, or can't be -----------------------------------------------


@pytest.mark.parametrize("root", ["data", "mine"])
def test_second_run_finds_the_download(nb, mirror, here, root):
    """In the folder that was named, if it is there, and in data in any case."""
    if root == "mine":
        (here / root).mkdir()
    assert loaded(nb, root) == "full"
    assert set(FILES) <= set(found(here / root / "MNIST"))
    (mirror / f"{FILES[0]}.gz").unlink()
    assert loaded(nb, root) == "full"


def test_what_is_missing_is_downloaded(nb, mirror, tmp_path):
    """Three of the four files are no reason to stop."""
    lay_out(mirror, tmp_path / "mine", "flat")
    (tmp_path / "mine" / FILES[1]).unlink()
    assert loaded(nb, tmp_path / "mine") == "full"


def test_no_folder_is_made_of_a_typing_mistake(nb, mirror, tmp_path, here):
    assert loaded(nb, tmp_path / "typo") == "full"
    assert not (tmp_path / "typo").exists()
    assert found(here) == found(SAMPLE)


FAULTS = {
    "refused": lambda file, server: server.close(),
    "timed out": lambda file, server: None,  # takes the call and is silent for ever
    "404": lambda file, server: file.unlink(),
    "corrupted": lambda file, server: file.write_bytes(file.read_bytes()[:5000]),
    "File not found or": lambda file, server: file.write_text("Please log in"),
}


@pytest.mark.parametrize("said", FAULTS)
def test_download_fails(nb, mirror, monkeypatch, tmp_path, capsys, said):
    """The reason is told, the sample steps in, nothing is left behind."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        FAULTS[said](mirror / f"{FILES[2]}.gz", server)
        if said in ("refused", "timed out"):
            monkeypatch.setattr(nb.datasets.MNIST, "mirrors", [url])
        wait = socket.setdefaulttimeout  # 0.2 s where the notebook says 20
        monkeypatch.setattr(socket, "setdefaulttimeout", lambda s: wait(s and 0.2))
        root = tmp_path / "mine"
        root.mkdir()
        assert loaded(nb, root) == "sample"
    told = capsys.readouterr().out
    assert said in told and f"MNIST in {root}" in told
    assert list(root.iterdir()) == [] and socket.getdefaulttimeout() is None


def test_no_way_to_mnist(nb, offline, here, tmp_path):
    """One message names the ways out; no folder is made."""
    shutil.rmtree(here / "data")
    for root in ("data", "", tmp_path / "typo", SAMPLE / "README.md"):
        with pytest.raises(ValueError, match="no MNIST") as caught:
            nb.load_mnist(root)
        for way in ("online|internet", "MNIST_ROOT", "data/sample"):
            assert caught.match(way)
    assert list(here.iterdir()) == [] and [*tmp_path.iterdir()] == [here]


# --- where it can't be kept --------------------------------------------------------


@pytest.mark.parametrize("copied", [0, 2])
@pytest.mark.parametrize("error", [errno.EACCES, errno.ENOSPC])
def test_a_folder_that_refuses(nb, mirror, monkeypatch, here, copied, error):
    """Read-only or full, at once or halfway: that costs the files, not the run."""

    def refuse(source, target, *_, **__):
        for file in sorted(Path(source).rglob("*-ubyte"))[:copied]:
            place = Path(target, file.relative_to(source))
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
        raise OSError(error, "refused")

    (here / "mine").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(nb.shutil, "copytree", refuse)
        for root in ("mine", "data"):
            assert loaded(nb, root) == "full"
    assert found(here) == found(SAMPLE) and [*(here / "mine").iterdir()] == []


def test_full_disk(nb, mirror, here, capsys):
    """Nothing can be written at all, not even for a while."""
    with full_disk():
        assert loaded(nb, "data") == "sample"
    assert "File too large" in capsys.readouterr().out
    assert found(here) == found(SAMPLE)


def test_what_else_is_called_mnist_stays(nb, mirror, here):
    """A folder MNIST with other things in it is the user's."""
    (here / "mine" / "MNIST").mkdir(parents=True)
    (here / "mine" / "MNIST" / "thesis.txt").write_text("years of work")
    assert loaded(nb, "mine") == "full"
    assert "thesis.txt" in found(here / "mine")


# --- how they are handed out -------------------------------------------------------


def test_split_and_loader(nb):
    """Every image once, in a new order each epoch; unless shuffled as it is stored."""
    numbers = torch.arange(1000)
    digits = nb.TensorDataset(numbers.float(), numbers)

    def order(batches):
        pairs = [(inputs.tolist(), labels.tolist()) for inputs, labels in batches]
        assert all(inputs == labels for inputs, labels in pairs)
        return sum((labels for _, labels in pairs), [])

    def parts(seed):
        return [order([part[:]]) for part in nb.split(digits, 1 / 8, seed)]

    def epochs(seed):
        torch.manual_seed(seed)
        loader = nb.make_loader(digits, 128, True)
        return [order(loader), order(loader)]

    training, validation = parts(seed=1)
    assert len(validation) == 125 and sorted(training + validation) == numbers.tolist()
    first, second = epochs(seed=1)
    assert first != second and sorted(first) == sorted(second) == numbers.tolist()
    assert parts(seed=1) == parts(seed=1) != parts(seed=2)
    assert epochs(seed=1) == epochs(seed=1) != epochs(seed=2)
    assert order(nb.make_loader(digits, 128)) == numbers.tolist()
    assert [len(labels) for _, labels in nb.make_loader(digits, 300)] == [300] * 3 + [
        100
    ]

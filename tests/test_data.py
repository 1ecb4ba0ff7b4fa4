"""Where the digits come from, and how they are handed out."""

import functools
import gzip
import hashlib
import shutil
import socket
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from unittest.mock import Mock

import pytest
import torch
from conftest import SAMPLE, full_disk


@pytest.fixture
def mirror(nb, monkeypatch, tmp_path_factory):
    """The folder of a mirror on this machine, the only one that torchvision knows.

    For the full set stands the sample with its training and test part exchanged.
    """
    folder, checksums = tmp_path_factory.mktemp("mirror"), []
    handler = functools.partial(SimpleHTTPRequestHandler, directory=folder)
    server, digest = ThreadingHTTPServer(("127.0.0.1", 0), handler), hashlib.sha256()
    for name, exchanged in zip(nb.FILES, nb.FILES[2:] + nb.FILES[:2], strict=True):
        content = (SAMPLE / "MNIST" / "raw" / exchanged).read_bytes()
        digest.update(content)
        zipped = gzip.compress(content, 1, mtime=0)
        (folder / f"{name}.gz").write_bytes(zipped)
        checksums.append((f"{name}.gz", hashlib.md5(zipped).hexdigest()))
    monkeypatch.setitem(nb.SHA256, "full", digest.hexdigest())
    monkeypatch.setattr(nb.datasets.MNIST, "resources", checksums)
    url = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setattr(nb.datasets.MNIST, "mirrors", [url])
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield folder
    server.shutdown()
    server.server_close()


def found(folder):
    """The names of all files below a folder."""
    return sorted(file.name for file in folder.rglob("*") if file.is_file())


FAULTS = {
    "refused": lambda file, server: server.close(),
    "timed out": lambda file, server: None,  # takes the call and is silent for ever
    "404": lambda file, server: file.unlink(),
    "corrupted": lambda file, server: file.write_bytes(file.read_bytes()[:5000]),
    "File not found or": lambda file, server: file.write_text("Please log in"),
}


@pytest.mark.parametrize("said", FAULTS)
def test_download_fails(nb, mirror, monkeypatch, tmp_path, capsys, said):
    """The reason is told in one line, the sample steps in, no file is left."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        FAULTS[said](mirror / f"{nb.FILES[2]}.gz", server)
        if said in ("refused", "timed out"):
            monkeypatch.setattr(nb.datasets.MNIST, "mirrors", [url])
        wait = socket.setdefaulttimeout  # 0.2 s where the notebook says 20
        monkeypatch.setattr(socket, "setdefaulttimeout", lambda s: wait(s and 0.2))
        assert nb.load_mnist(tmp_path, SAMPLE).kind == "sample"
    told = [line for line in capsys.readouterr().out.splitlines() if "MNIST" in line]
    assert "could not be downloaded" in told[0] and said in told[0]
    assert told[1].startswith("MNIST, sample: ") and len(told) == 2
    assert found(tmp_path) == [] and socket.getdefaulttimeout() is None


def test_second_run_finds_the_download(nb, mirror, sample, tmp_path):
    """In any folder; where a file of it is missing later, all come again."""
    root, server = tmp_path / "Größe mit Leerzeichen 数字", nb.datasets.MNIST.mirrors
    for mirrors in (server, [], server):  # none: it has to be there already
        nb.datasets.MNIST.mirrors = mirrors
        loaded = nb.load_mnist(root, "no sample")
        assert loaded.kind == "full" and found(tmp_path) == sorted(nb.FILES)
        assert torch.equal(loaded.train_images, sample.test_images)
        if not mirrors:
            (root / "MNIST" / "raw" / nb.FILES[1]).unlink()


@pytest.mark.parametrize("index", range(4))
def test_damaged_file_is_named(nb, mirror, tmp_path, index):
    """Whether it is the user's or the sample's; nothing else is taken in its place."""
    (mirror / f"{nb.FILES[0]}.gz").unlink()
    root = shutil.copytree(SAMPLE, tmp_path / "data")
    file = root / "MNIST" / "raw" / nb.FILES[index]
    content = file.read_bytes()
    for damaged in (content[:-1], content[:-1] + b"\7", b""):
        file.write_bytes(damaged)
        for places in ((root, SAMPLE), (tmp_path / "empty", root)):
            with pytest.raises(ValueError, match="damaged") as caught:
                nb.load_mnist(*places)
            assert str(file) in str(caught.value)


def test_folder_refuses(nb, mirror, monkeypatch, tmp_path, capsys):
    """The disk is full; a folder can't be made; it is read-only, by a patch."""
    with full_disk():
        assert nb.load_mnist(tmp_path, SAMPLE).kind == "sample"
    assert "File too large" in capsys.readouterr().out and found(tmp_path) == []
    assert nb.load_mnist(SAMPLE / "README.md", SAMPLE).kind == "sample"
    assert "Not a directory" in capsys.readouterr().out
    refuse = Mock(side_effect=PermissionError(13, "Permission denied"))
    monkeypatch.setattr(nb.tempfile, "mkdtemp", refuse)
    assert nb.load_mnist(tmp_path, SAMPLE).kind == "sample"
    assert "Permission denied" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no MNIST"):
        nb.load_mnist(tmp_path, tmp_path / "no sample")


def test_split_and_loader(nb):
    """Every image once, in a new order each epoch; without a seed as it is stored."""
    numbers = torch.arange(1000)
    digits = nb.Digits(numbers.float(), numbers)

    def order(batches):
        pairs = [(inputs.tolist(), labels.tolist()) for inputs, labels in batches]
        assert all(inputs == labels for inputs, labels in pairs)
        return sum((labels for _, labels in pairs), [])

    def parts(seed):
        return [order([part[:]]) for part in nb.split(digits, 1 / 8, seed)]

    def epochs(seed):
        loader = nb.make_loader(digits, 128, seed)
        return [order(loader), order(loader)]

    training, validation = parts(seed=1)
    assert len(validation) == 125 and sorted(training + validation) == numbers.tolist()
    first, second = epochs(seed=1)
    assert first != second and sorted(first) == sorted(second) == numbers.tolist()
    assert parts(seed=1) == parts(seed=1) != parts(seed=2)
    assert epochs(seed=1) == epochs(seed=1) != epochs(seed=2)
    assert order(nb.make_loader(digits, 128)) == numbers.tolist()

"""Where the digits come from, and how they are handed out."""

import errno
import gzip
import hashlib
import shutil
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from conftest import SAMPLE

RAW = SAMPLE / "MNIST" / "raw"


# --- a mirror on this machine, with faults -------------------------------------


class Mirror(BaseHTTPRequestHandler):
    """GET /FAULT/FILE.gz answers with that file of the sample, or with the fault."""

    def do_GET(self):
        _, fault, name = self.path.split("/")
        self.server.asked.append((fault, name))
        body = self.server.files[name]
        if fault in ("403", "503"):
            self.send_error(int(fault))
            return
        if fault == "hangs":
            self.server.closing.wait(60)
            return
        if fault == "other":
            body = b"<html>Please log in</html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault == "truncated":
            body = body[: len(body) // 2]
        if fault == "drips":
            while not self.server.closing.wait(0.05):
                self.wfile.write(body[:100])
                body = body[100:]
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, address):
        pass  # a client that hangs up is no news


@pytest.fixture
def mirrors(nb, monkeypatch):
    """Call it with faults: torchvision then knows these mirrors, in this order.

    The sample stands in for the full set: same names, its own checksums.
    """
    server = Server(("127.0.0.1", 0), Mirror)
    server.closing, server.asked = threading.Event(), []
    server.files = {
        f"{name}.gz": gzip.compress((RAW / name).read_bytes(), 1, mtime=0)
        for name in nb.FILES
    }
    resources = [
        (name, hashlib.md5(content).hexdigest())
        for name, content in server.files.items()
    ]
    monkeypatch.setattr(nb.datasets.MNIST, "resources", resources)
    monkeypatch.setitem(nb.SHA256, "full", nb.SHA256["sample"])
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def choose(*faults):
        host = f"http://127.0.0.1:{server.server_port}"
        urls = [
            "http://127.0.0.1:9/" if fault == "refuses" else f"{host}/{fault}/"
            for fault in faults
        ]
        monkeypatch.setattr(nb.datasets.MNIST, "mirrors", urls)
        return server

    yield choose
    server.closing.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def hurry(nb, monkeypatch):
    """A download gives up after a second."""
    monkeypatch.setattr(nb.download_mnist, "__defaults__", (1,))


@pytest.fixture
def full(nb, monkeypatch, tmp_path):
    """A folder with all four files of what passes for the full set."""
    monkeypatch.setitem(nb.SHA256, "full", nb.SHA256["sample"])
    return shutil.copytree(SAMPLE, tmp_path / "full")


FAULTS = {
    "refuses": "refused",
    "403": "403",
    "503": "503",
    "hangs": "timed out",
    "truncated": "corrupted",
    "other": "corrupted",
}


# --- load_mnist and its parts --------------------------------------------------


def test_damaged_names_what_is_missing_or_changed(nb, full):
    raw = full / "MNIST" / "raw"
    assert nb.damaged(full, "sample") == []
    assert nb.damaged(full / "elsewhere", "sample") == [
        full / "elsewhere" / "MNIST" / "raw" / name for name in nb.FILES
    ]
    (raw / nb.FILES[0]).unlink()
    (raw / nb.FILES[3]).write_bytes(b"")
    assert nb.damaged(full, "sample") == [raw / nb.FILES[0], raw / nb.FILES[3]]


def test_full_set_in_the_folder(nb, full, capsys):
    data = nb.load_mnist(full)
    assert data.kind == "full"
    assert capsys.readouterr().out.startswith("MNIST, full: found")


def test_sample_in_the_folder(nb, sample, capsys):
    data = nb.load_mnist(str(SAMPLE))
    assert data.kind == "sample"
    assert capsys.readouterr().out.startswith("MNIST, sample: found")
    for name, tensor in sample._asdict().items():
        if name != "kind":
            assert torch.equal(getattr(data, name), tensor)


def test_sample_is_as_described(sample):
    assert sample.train_images.shape == (4000, 28, 28)
    assert sample.test_images.shape == (1000, 28, 28)
    assert sample.train_images.dtype == sample.test_images.dtype == torch.uint8
    assert sample.train_labels.dtype == sample.test_labels.dtype == torch.int64
    assert sample.train_labels.bincount().tolist() == [400] * 10
    assert sample.test_labels.bincount().tolist() == [100] * 10


def test_local_files_need_no_network(nb, full, monkeypatch):
    def download(*args, **options):
        raise AssertionError("asked a mirror")

    monkeypatch.setattr(nb, "download_mnist", download)
    nb.load_mnist(full)
    nb.load_mnist(SAMPLE)


@pytest.mark.parametrize("fault", FAULTS)
def test_no_mirror_answers_well(nb, mirrors, hurry, tmp_path, capsys, fault):
    """The cause is told in one line, the sample steps in, nothing is left."""
    mirrors(fault)
    data = nb.load_mnist(tmp_path / "data", SAMPLE)
    told = capsys.readouterr()
    assert data.kind == "sample"
    assert told.out.startswith("MNIST, sample: ") and told.out.count("\n") == 1
    assert "127.0.0.1" in told.out and FAULTS[fault] in told.out
    assert told.err == ""
    assert list(tmp_path.iterdir()) == []
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("fault", [*FAULTS, "drips"])
def test_download_keeps_its_time_limit(nb, mirrors, tmp_path, fault):
    mirrors(fault, fault)
    start = time.perf_counter()
    reason = nb.download_mnist(tmp_path, seconds=1)
    assert time.perf_counter() - start < 3
    assert reason and "\n" not in reason


def test_download_that_was_given_up_stays_quiet(nb, mirrors, tmp_path, capsys):
    """After the time limit no further file is asked for and nothing printed."""
    server = mirrors("drips", "good")
    before = threading.enumerate()
    reason = nb.download_mnist(tmp_path, seconds=0.5)
    assert "not done after" in reason
    server.closing.set()  # the mirror sends the rest; the thread is free to go on
    for thread in threading.enumerate():
        if thread not in before:
            thread.join(5)
    assert {name for _, name in server.asked} == {f"{nb.FILES[0]}.gz"}
    assert {fault for fault, _ in server.asked} == {"drips"}
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("fault", FAULTS)
def test_second_mirror_helps(nb, mirrors, hurry, sample, tmp_path, capsys, fault):
    mirrors(fault, "good")
    root = tmp_path / "data"
    data = nb.load_mnist(root, tmp_path / "no sample")
    assert data.kind == "full"
    assert torch.equal(data.train_images, sample.train_images)
    assert nb.damaged(root, "full") == []
    assert sorted(file.name for file in (root / "MNIST" / "raw").iterdir()) == sorted(
        nb.FILES
    )
    assert capsys.readouterr() == ("MNIST, full: downloaded\n", "")


def test_second_run_finds_the_download(nb, mirrors, tmp_path, capsys):
    server = mirrors("good")
    nb.load_mnist(tmp_path / "data")
    asked = len(server.asked)
    capsys.readouterr()
    nb.load_mnist(tmp_path / "data")
    assert len(server.asked) == asked
    assert capsys.readouterr().out.startswith("MNIST, full: found")


def flip(file, other):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut(file, other):
    file.write_bytes(file.read_bytes()[:-1])


def empty(file, other):
    file.write_bytes(b"")


def swap(file, other):
    content = file.read_bytes()
    file.write_bytes(other.read_bytes())
    other.write_bytes(content)


@pytest.mark.parametrize("damage", [flip, cut, empty, swap])
@pytest.mark.parametrize("index", [0, 1])
def test_damaged_file_is_named(nb, full, damage, index):
    """All the wrong files, and only these, are named where no mirror helps."""
    raw = full / "MNIST" / "raw"
    damage(raw / nb.FILES[index], raw / nb.FILES[index + 2])
    wrong = [index, index + 2] if damage is swap else [index]
    with pytest.raises(ValueError, match="damaged") as caught:
        nb.load_mnist(full, SAMPLE)
    for i, name in enumerate(nb.FILES):
        assert (str(raw / name) in str(caught.value)) == (i in wrong)


@pytest.mark.parametrize("damage", [flip, cut, empty, swap])
def test_damaged_file_is_replaced_by_a_download(nb, full, mirrors, damage):
    raw = full / "MNIST" / "raw"
    damage(raw / nb.FILES[0], raw / nb.FILES[2])
    mirrors("good")
    assert nb.load_mnist(full, SAMPLE).kind == "full"
    assert nb.damaged(full, "full") == []


def test_missing_file_is_downloaded(nb, full, mirrors):
    (full / "MNIST" / "raw" / nb.FILES[1]).unlink()
    mirrors("good")
    assert nb.load_mnist(full).kind == "full"
    assert nb.damaged(full, "full") == []


def test_missing_file_and_no_mirror_is_the_sample(nb, full, capsys):
    (full / "MNIST" / "raw" / nb.FILES[1]).unlink()
    assert nb.load_mnist(full, SAMPLE).kind == "sample"
    assert "MNIST, sample" in capsys.readouterr().out


def test_no_data_anywhere(nb, tmp_path):
    with pytest.raises(ValueError, match="no MNIST"):
        nb.load_mnist(tmp_path / "data", tmp_path / "sample")


def test_damaged_sample_is_named(nb, tmp_path):
    broken = shutil.copytree(SAMPLE, tmp_path / "sample")
    file = broken / "MNIST" / "raw" / nb.FILES[2]
    cut(file, None)
    with pytest.raises(ValueError, match=nb.FILES[2]):
        nb.load_mnist(tmp_path / "data", broken)


def test_damaged_sample_in_the_folder_is_named(nb, tmp_path):
    """Its one wrong file, not the three that are right but not the full set's."""
    broken = shutil.copytree(SAMPLE, tmp_path / "sample")
    cut(broken / "MNIST" / "raw" / nb.FILES[2], None)
    with pytest.raises(ValueError, match="damaged") as caught:
        nb.load_mnist(broken, SAMPLE)
    named = [name for name in nb.FILES if name in str(caught.value)]
    assert named == [nb.FILES[2]]


def test_folder_with_spaces_and_other_letters(nb, mirrors, tmp_path):
    mirrors("good")
    root = tmp_path / "Größe mit Leerzeichen 数字"
    assert nb.load_mnist(root).kind == "full"
    assert nb.damaged(root, "full") == []
    assert nb.load_mnist(root).kind == "full"


# --- keeping a download --------------------------------------------------------


def test_folder_that_cannot_be_made(nb, mirrors, tmp_path, capsys):
    """The images are used all the same; the line says that they weren't kept."""
    mirrors("good")
    file = tmp_path / "file"
    file.write_text("no folder")
    assert nb.load_mnist(file / "data").kind == "full"
    assert "not kept" in capsys.readouterr().out
    assert file.read_text() == "no folder"


def test_folder_that_is_read_only(nb, mirrors, tmp_path, monkeypatch, capsys):
    """By a patch, since permissions don't stop everybody (root, Windows)."""
    mirrors("good")

    def refuse(source, target):
        raise PermissionError(errno.EACCES, "Permission denied", str(target))

    monkeypatch.setattr(nb.shutil, "copyfile", refuse)
    assert nb.load_mnist(tmp_path / "data").kind == "full"
    assert "not kept for the next time (Permission denied)" in capsys.readouterr().out


def test_disk_that_fills_up(nb, full, tmp_path, monkeypatch):
    """A file that no longer fits leaves no part of it, and the others intact."""
    copyfile = shutil.copyfile

    def copy(source, target):
        if source.name == nb.FILES[2]:
            target.write_bytes(source.read_bytes()[:1000])
            raise OSError(errno.ENOSPC, "No space left on device")
        return copyfile(source, target)

    monkeypatch.setattr(nb.shutil, "copyfile", copy)
    assert "No space left" in nb.keep(full, tmp_path / "data")
    raw = tmp_path / "data" / "MNIST" / "raw"
    assert sorted(file.name for file in raw.iterdir()) == sorted(nb.FILES[:2])
    for name in nb.FILES[:2]:
        assert (raw / name).read_bytes() == (RAW / name).read_bytes()


def test_small_disk(nb, mirrors, small_disk, capsys):
    """The same on a real disk that is too small."""
    mirrors("good")
    assert nb.load_mnist(small_disk / "data").kind == "full"
    assert "not kept for the next time (No space left" in capsys.readouterr().out
    assert not [file for file in small_disk.rglob("*") if file.is_file()]


def test_keep_replaces_what_was_there(nb, full, tmp_path):
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in (*nb.FILES, "download.part"):
        (raw / name).write_text("old")
    assert nb.keep(full, tmp_path / "data") == ""
    assert nb.damaged(tmp_path / "data", "full") == []
    assert len(list(raw.iterdir())) == len(nb.FILES)


# --- split and loaders ---------------------------------------------------------


@pytest.fixture
def numbered(nb):
    """1,000 inputs that carry their own number."""
    numbers = torch.arange(1000)
    return nb.Part(numbers.float().view(-1, 1, 1, 1).expand(-1, 1, 28, 28), numbers)


def test_split_is_disjoint_and_complete(nb, numbered):
    first, second = nb.split(numbered, 1 / 8, seed=1)
    assert (len(first.labels), len(second.labels)) == (875, 125)
    together = torch.cat([first.labels, second.labels])
    assert together.sort().values.tolist() == list(range(1000))
    assert not torch.equal(together, numbered.labels)
    for part in (first, second):
        assert torch.equal(part.inputs[:, 0, 0, 0].long(), part.labels)


def test_split_depends_on_its_seed_only(nb, numbered):
    torch.manual_seed(1)
    first = nb.split(numbered, 0.2, seed=1)[1].labels
    torch.manual_seed(2)
    assert torch.equal(nb.split(numbered, 0.2, seed=1)[1].labels, first)
    assert not torch.equal(nb.split(numbered, 0.2, seed=2)[1].labels, first)


def test_settings_split_off_5000_of_60000(nb):
    part = nb.Part(torch.zeros(60000, 1), torch.zeros(60000))
    first, second = nb.split(part, nb.VALIDATION_SHARE, nb.SEED)
    assert (len(first.labels), len(second.labels)) == (55000, 5000)


def order(loader):
    """The labels of one epoch; each batch is checked on the way."""
    seen = []
    for inputs, labels in loader:
        assert torch.equal(inputs[:, 0, 0, 0].long(), labels)
        seen.append(labels)
    return torch.cat(seen).tolist()


@pytest.mark.parametrize("seed", [None, 1])
def test_loader_gives_each_image_once_an_epoch(nb, numbered, seed):
    loader = nb.make_loader(numbered, 128, seed)
    sizes = [len(labels) for _, labels in loader]
    assert sizes == [128] * 7 + [104] and len(loader) == 8
    for _ in range(2):
        assert sorted(order(loader)) == list(range(1000))


def test_loader_without_seed_keeps_the_order(nb, numbered):
    assert order(nb.make_loader(numbered, 128)) == list(range(1000))


def test_loader_shuffles_anew_each_epoch(nb, numbered):
    loader = nb.make_loader(numbered, 128, seed=1)
    first, second = order(loader), order(loader)
    assert first != second != list(range(1000)) != first


def test_loader_repeats_by_its_seed_only(nb, numbered):
    orders = []
    for seed, others in ((1, 1), (1, 2), (2, 1)):
        torch.manual_seed(others)
        loader = nb.make_loader(numbered, 128, seed)
        orders.append([order(loader), order(loader)])
    assert orders[0] == orders[1] != orders[2]


def test_loader_leaves_the_global_generator_alone(nb, numbered):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    order(nb.make_loader(numbered, 128, seed=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_loader_uses_no_worker_process(nb, numbered):
    assert nb.make_loader(numbered, 128, seed=1).num_workers == 0

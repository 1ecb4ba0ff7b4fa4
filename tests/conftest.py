"""What all tests share: the notebook's definitions and the sample of MNIST."""

import subprocess

import matplotlib

matplotlib.use("Agg")

import notebook  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

SAMPLE = notebook.ROOT / "data" / "sample"


@pytest.fixture(scope="session")
def nb():
    """The notebook's imports, settings, functions and classes."""
    torch.set_num_threads(2)
    return notebook.load()


@pytest.fixture(scope="session")
def sample(nb):
    """The 4,000 + 1,000 digits of data/sample, as `load_mnist` gives them."""
    return nb.read_mnist(SAMPLE, "sample")


@pytest.fixture(scope="session")
def parts(nb, sample):
    """Training and test part of the sample, normalised."""
    return (
        nb.Part(notebook.inputs(nb, sample.train_images), sample.train_labels),
        nb.Part(notebook.inputs(nb, sample.test_images), sample.test_labels),
    )


@pytest.fixture(autouse=True)
def no_mirrors(nb, monkeypatch):
    """No test reaches beyond this machine: the one mirror is a closed port."""
    monkeypatch.setattr(nb.datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def small_disk(tmp_path):
    """A disk with room for half a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)

"""What all tests share: the notebook's definitions and the sample of MNIST."""

import contextlib
import types

import matplotlib
import notebook
import pytest
import torch

matplotlib.use("Agg")

SAMPLE = notebook.ROOT / "data" / "sample"


@pytest.fixture(scope="session")
def nb():
    """The notebook's imports, settings, functions and classes."""
    torch.set_num_threads(1)  # as chapter 4 does
    return notebook.load()


@pytest.fixture(scope="session")
def sample(nb):
    """The 4,000 + 1,000 digits of data/sample."""
    training, test = (nb.datasets.MNIST(SAMPLE, train) for train in (True, False))
    return types.SimpleNamespace(
        train_images=training.data,
        train_labels=training.targets,
        test_images=test.data,
        test_labels=test.targets,
    )


@contextlib.contextmanager
def full_disk():
    """No file grows beyond 100 kB: the system refuses, as where a disk is full."""
    resource = pytest.importorskip("resource", reason="not on Windows")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

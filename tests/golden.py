"""Write golden.json: what the committed model.pth says to ten digits of the sample.

Run it once after a new model.pth is committed: python tests/golden.py
"""

import json

import notebook
import torch


def first_of_each_class(data):
    """Images uint8 (10, 28, 28) and labels (10,): the first test digit of each."""
    first = [int((data.test_labels == digit).nonzero()[0]) for digit in range(10)]
    return data.test_images[first], data.test_labels[first]


def main() -> None:
    nb = notebook.load()
    data = nb.read_mnist(notebook.ROOT / "data" / "sample", "sample")
    images, _ = first_of_each_class(data)
    model = nb.load_model(notebook.ROOT / "model.pth")
    with torch.no_grad():
        logits = model(notebook.inputs(nb, images))
    golden = {
        "answers": logits.argmax(1).tolist(),
        "logits": [[round(value, 6) for value in row] for row in logits.tolist()],
    }
    path = notebook.ROOT / "tests" / "golden.json"
    path.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
    print(f"{path.relative_to(notebook.ROOT)}: answers {golden['answers']}")


if __name__ == "__main__":
    main()

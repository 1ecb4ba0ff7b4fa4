"""Hold a new run against the committed one: python tests/compare_runs.py NEW.ipynb

Exit status 1 where the new run isn't clean, isn't of the full set, or where the
network's test accuracy differs by more than chapter 1 says.
"""

import argparse
import re
from pathlib import Path

from notebook import NOTEBOOK, committed, read
from test_committed import outputs, prose, results, texts

MODEL = "MLP, warped"


def accuracy(book: dict) -> float:
    """The network's test accuracy in per cent."""
    found = {model: test for model, test, _ in results("\n\n".join(texts(book)))}
    return float(found[MODEL].rstrip("%"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("new", type=Path, help="the executed notebook")
    new = read(parser.parse_args().new.read_bytes())
    old = read(committed(NOTEBOOK))
    stated = re.search(r"within (\d+\.\d+) percentage points", prose(old))
    tolerance = float(stated.group(1))

    faults = [o for o in outputs(new) if o["output_type"] == "error"]
    faults += [o for o in outputs(new) if o.get("name") == "stderr"]
    if faults:
        raise SystemExit(f"not a clean run: {faults[0]}")
    if "MNIST, full: " not in "\n".join(texts(new)):
        raise SystemExit("not a run on the full set")
    difference = accuracy(new) - accuracy(old)
    told = f"{MODEL}: test accuracy {accuracy(new):.2f} %, committed "
    told += f"{accuracy(old):.2f} %, tolerance {tolerance} percentage points"
    if round(abs(difference), 6) > tolerance:
        raise SystemExit(told)
    print(told)


if __name__ == "__main__":
    main()

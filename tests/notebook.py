"""The notebook as a module: its definitions without its work."""

import ast
import json
import subprocess
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = "Digit_Classifier.ipynb"
DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)


def committed(path: str) -> bytes:
    """A file as it was last committed, since a run replaces model.pth and figures.

    Outside of a git repository, or before its first commit, it is the file itself.
    """
    command = ["git", "show", f"HEAD:./{path}"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return (ROOT / path).read_bytes()


def read(content: bytes) -> dict:
    """A notebook as nested dicts, each cell's source as one string."""
    notebook = json.loads(content)
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"])
    return notebook


def is_definition(node: ast.stmt) -> bool:
    """Import, function, class, or setting: names in capitals, in a tuple or not."""
    setting = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).isupper()
    return setting or isinstance(node, DEFINITIONS)


def definitions(notebook: dict) -> ast.Module:
    """All definitions of a notebook in their order."""
    sources = (c["source"] for c in notebook["cells"] if c["cell_type"] == "code")
    nodes = [node for source in sources for node in ast.parse(source).body]
    return ast.Module([n for n in nodes if is_definition(n)], type_ignores=[])


def load() -> types.ModuleType:
    """The notebook's definitions in a module; nothing is loaded or trained."""
    code = definitions(read((ROOT / NOTEBOOK).read_bytes()))
    module = types.ModuleType("digit_classifier")
    exec(compile(code, NOTEBOOK, "exec"), vars(module))
    return module


def inputs(nb: types.ModuleType, images):
    """Images uint8 (N, 28, 28) by the notebook's contract: float32 (N, 1, 28, 28)."""
    return (images.unsqueeze(1) / 255 - nb.MEAN) / nb.STD

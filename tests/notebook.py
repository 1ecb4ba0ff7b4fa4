"""The notebook as a module: its definitions without its work."""

import ast
import json
import re
import subprocess
import types
from pathlib import Path

from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = "Digit_Classifier.ipynb"
DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)


def committed(path: str) -> bytes:
    """A file of the project as it was last committed.

    A run of the notebook replaces model.pth and the figures: what is said of the
    committed run is said of the committed files. Outside of a git repository, or
    before the first commit of the file, it is the file itself.
    """
    command = ["git", "show", f"HEAD:./{path}"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return (ROOT / path).read_bytes()


def readme_scripts() -> list[str]:
    """The Python blocks below the README's heading about one's own script."""
    readme = committed("README.md").decode("utf-8")
    chapter = readme.split("## Use model.pth in your own script", 1)[1]
    return re.findall(r"```python\n(.*?)```", chapter.split("\n## ")[0], flags=re.S)


def read(content: bytes) -> dict:
    """A notebook as nested dicts, each cell's source as one string."""
    notebook = json.loads(content)
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"])
    return notebook


def is_setting(node: ast.stmt) -> bool:
    """Whether it assigns to names in capitals only, in tuples or not."""
    if not isinstance(node, ast.Assign):
        return False
    names = [n for target in node.targets for n in ast.walk(target)]
    names = [n.id for n in names if isinstance(n, ast.Name)]
    return bool(names) and all(name.isupper() for name in names)


def definitions(notebook: dict) -> ast.Module:
    """Imports, settings, functions and classes of a notebook, in their order."""
    nodes = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            body = ast.parse(cell["source"]).body
            nodes += [n for n in body if isinstance(n, DEFINITIONS) or is_setting(n)]
    return ast.Module(nodes, type_ignores=[])


def load() -> types.ModuleType:
    """The notebook's definitions in a module; nothing is loaded or trained."""
    notebook = read((ROOT / NOTEBOOK).read_bytes())
    module = types.ModuleType("digit_classifier")
    exec(compile(definitions(notebook), NOTEBOOK, "exec"), vars(module))
    return module


def inputs(nb: types.ModuleType, images: Tensor) -> Tensor:
    """Images uint8 (N, 28, 28) by the notebook's contract: float32 (N, 1, 28, 28)."""
    return (images.unsqueeze(1) / 255 - nb.MEAN) / nb.STD

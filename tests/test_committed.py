"""The committed run: its notebook, README and model.pth agree."""

import hashlib
import re

import draw_number
from notebook import NOTEBOOK, committed, read

MACHINE = re.compile(
    r"(?<![\w.])/(?:home|root|tmp|work|Users|private|opt)/|\.\./shared|[A-Z]:\\"
)
CODE = re.compile(r"```.*?```|`[^`]*`", re.S)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


BOOK = read(committed(NOTEBOOK))
README = committed("README.md").decode("utf-8")


def outputs(book):
    return [output for cell in book["cells"] for output in cell.get("outputs", [])]


def told(book):
    """All that the outputs say in words; the pad's page isn't among it."""
    texts = []
    for output in outputs(book):
        texts.append("".join(output.get("text", "")))
        for kind in ("text/plain", "text/markdown"):
            texts.append("".join(output.get("data", {}).get(kind, "")))
    return "\n\n".join(texts)


def prose(book):
    cells = (cell for cell in book["cells"] if cell["cell_type"] == "markdown")
    return "\n\n".join(cell["source"] for cell in cells)


def results(text):
    """The results table in a text: {model: [validation, test, interval]}."""
    for block in re.findall(r"(?:^\|.*\|\n?)+", text, flags=re.M):
        lines = block.strip().splitlines()
        rows = [[v.strip(" *`") for v in line.strip("|").split("|")] for line in lines]
        if {"model", "validation", "test"} <= set(rows[0]):
            columns = [rows[0].index(n) for n in ("validation", "test", "95% interval")]
            return {row[0]: [row[i] for i in columns] for row in rows[2:]}
    raise ValueError("no table with the columns model, validation and test")


def check_clean(book):
    """No error, nothing on stderr."""
    kinds = {output["output_type"] for output in outputs(book)}
    assert kinds == {"stream", "display_data"}
    assert {o["name"] for o in outputs(book) if "name" in o} == {"stdout"}


def test_one_clean_run_on_the_full_set():
    """Whose model.pth is the committed one: chapter 10 printed its SHA-256."""
    counts = [c["execution_count"] for c in BOOK["cells"] if c["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))
    check_clean(BOOK)
    digest = hashlib.sha256(committed("model.pth")).hexdigest()
    for line in ("MNIST, full: ", f"SHA-256 {digest}", "to the last bit: True"):
        assert line in told(BOOK)
    assert len(committed(NOTEBOOK)) < 2_000_000 and "widgets" not in BOOK["metadata"]


def test_no_path_of_a_machine():
    texts = [README, told(BOOK), *(cell["source"] for cell in BOOK["cells"])]
    texts += ["".join(o.get("data", {}).get("text/html", "")) for o in outputs(BOOK)]
    assert not [text for text in texts if MACHINE.search(text)]


def test_pictures_are_described():
    pictures = [o for o in outputs(BOOK) if "image/png" in o.get("data", {})]
    texts = [picture["metadata"]["image/png"]["alt"] for picture in pictures]
    texts += [alt for mark, alt, _ in LINK.findall(README + prose(BOOK)) if mark]
    assert len(texts) > 5 and min(len(alt.split()) for alt in texts) >= 5, texts


def test_headings_and_links():
    """Chapters 1 to 12; anchors by Jupyter's rule, in the README by GitHub's."""
    for text, change in ((prose(BOOK), str), (CODE.sub("", README), str.lower)):
        titles = re.findall(r"^#{1,6} (.+?) *$", CODE.sub("", text), flags=re.M)
        anchors = {change(title).replace(" ", "-") for title in titles}
        for _, name, target in LINK.findall(text):
            if target.startswith("#"):
                assert target[1:] in anchors, target
            elif "://" not in target:
                assert committed(target), target
            if chapter := re.fullmatch(r"chapter (\d+)", name):
                assert target.startswith(f"#{chapter.group(1)}."), target
    chapters = re.findall(r"^## (\d+)\. ", prose(BOOK), flags=re.M)
    assert chapters == [str(number) for number in range(1, 13)]


def test_figures_are_those_of_the_outputs():
    figures = re.findall(r"\d+(?:\.\d+)?%", prose(BOOK).split("\n## ")[0])
    for figure in figures:
        assert re.search(rf"(?<![\d.]){re.escape(figure)}", told(BOOK)), figure
    assert figures and results(README) == results(told(BOOK))
    assert float(results(README)["MLP, warped"][1].rstrip("%")) >= 99
    answers = re.findall(r"^[A-Z][a-z ]+: (\d{6,})$", told(BOOK), flags=re.M)
    assert len(answers) >= 5 and set(answers) == {"".join(draw_number.LINES)}

"""The committed run: its notebook, README and model.pth agree."""

import hashlib
import re
from collections import Counter

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


def of_kind(output, kind):
    return "".join(output.get("data", {}).get(kind, ""))


def tables(book):
    """Each table of the outputs, pandas' HTML, as a list of rows of texts."""
    for output in outputs(book):
        if 'class="dataframe"' in (html := of_kind(output, "text/html")):
            rows = re.findall(r"<tr.*?>(.*?)</tr>", html, flags=re.S)
            yield [re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row) for row in rows]


def told(book):
    """All that the outputs say in words; the pad's page isn't among it."""
    texts = ["\n".join(map(" | ".join, table)) for table in tables(book)]
    for output in outputs(book):
        texts.append("".join(output.get("text", "")))
        texts.append(of_kind(output, "text/plain"))
    return "\n\n".join(texts)


def prose(book):
    cells = (cell for cell in book["cells"] if cell["cell_type"] == "markdown")
    return "\n\n".join(cell["source"] for cell in cells)


def results(table):
    """A table as {model: {column: value}}, or None if it isn't that of the results."""
    header, *rows = table
    if {"validation", "test", "95% interval"} <= set(header):
        return {row[0]: dict(zip(header[1:], row[1:])) for row in rows}


def results_of_run(book):
    (found,) = filter(None, map(results, tables(book)))
    return found


def results_of_readme(text):
    blocks = re.findall(r"(?:^\|.*\|\n?)+", text, flags=re.M)
    lines = [re.sub(r"^\|[-:| ]+\|\n", "", b, flags=re.M).splitlines() for b in blocks]
    split = [
        [[v.strip(" *`") for v in line.split("|")[1:-1]] for line in b] for b in lines
    ]
    (found,) = filter(None, map(results, split))
    return found


def check_clean(book):
    """No error, nothing on stderr."""
    kinds = {output["output_type"] for output in outputs(book)}
    assert kinds <= {"stream", "display_data", "execute_result"}
    stderr = [o["text"] for o in outputs(book) if o.get("name", "stdout") != "stdout"]
    assert stderr == []


def test_one_clean_run_on_the_full_set():
    """Whose model.pth is the committed one: chapter 11 printed its SHA-256."""
    counts = [c["execution_count"] for c in BOOK["cells"] if c["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))
    check_clean(BOOK)
    digest = hashlib.sha256(committed("model.pth")).hexdigest()
    for line in ("MNIST, full: ", f"SHA-256 {digest}", "to the last bit: True"):
        assert line in told(BOOK)
    assert len(committed(NOTEBOOK)) < 2_000_000 and "widgets" not in BOOK["metadata"]


def test_no_path_of_a_machine():
    texts = [README, told(BOOK), *(cell["source"] for cell in BOOK["cells"])]
    texts += [of_kind(output, "text/html") for output in outputs(BOOK)]
    assert not [text for text in texts if MACHINE.search(text)]


def test_figures_have_captions():
    """In italics, right below each; pictures that are no outputs are README's only."""
    cells, figures = BOOK["cells"], 0
    for cell, below in zip(cells, [*cells[1:], {"source": "", "cell_type": ""}]):
        if any(of_kind(o, "image/png") for o in cell.get("outputs", [])):
            figures += 1
            assert below["cell_type"] == "markdown", cell["source"]
            caption = re.match(r"\*[^*\n]+[.?!]\*(?= |$)", below["source"], flags=re.M)
            assert caption and len(caption[0].split()) >= 4, below["source"]
    assert figures > 10
    assert not [link for link in LINK.findall(prose(BOOK)) if link[0]]
    described = [alt for mark, alt, _ in LINK.findall(README) if mark]
    assert described and min(len(alt.split()) for alt in described) >= 5


def test_headings_and_links():
    """Chapters 1 to 14; anchors by Jupyter's rule, in the README by GitHub's."""
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
    assert chapters == [str(number) for number in range(1, 15)]


def test_figures_are_those_of_the_outputs():
    """Of the prose at the top, of README's table, and what chapter 13 reads."""
    figures = re.findall(r"\d+(?:\.\d+)?%", prose(BOOK).split("\n## ")[0])
    for figure in figures:
        assert re.search(rf"(?<![\d.]){re.escape(figure)}", told(BOOK)), figure
    found = results_of_run(BOOK)
    assert figures and results_of_readme(README) == found
    assert float(found["MLP, warped"]["test"].rstrip("%")) >= 99
    answers = re.findall(r"^[A-Z][a-z ]+: (\d{6,})$", told(BOOK), flags=re.M)
    ((digits, times),) = Counter(answers).most_common(1)
    assert len(digits) == 10 and times >= 5  # one page, spoilt in six ways
    for text in (prose(BOOK), README):  # nothing is left to fill in
        assert not re.search(r"@@|\{\w+\}", CODE.sub("", text))

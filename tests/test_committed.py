"""The committed run: its notebook, README and model.pth agree."""

import hashlib
import re
import subprocess
import sys

import draw_number
import pytest
from notebook import NOTEBOOK, ROOT, committed, read

MACHINE = re.compile(
    r"(?<![\w.])/(?:home|root|tmp|work|Users|private|opt)/|\.\./shared|[A-Z]:\\"
)
CODE = re.compile(r"```.*?```|`[^`]*`", re.S)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
PERCENT = re.compile(r"\d+(?:\.\d+)? ?%")


# --- reading what is committed ---------------------------------------------------


@pytest.fixture(scope="module")
def book():
    return read(committed(NOTEBOOK))


@pytest.fixture(scope="module")
def readme():
    return committed("README.md").decode("utf-8")


def cells(book, kind):
    return [cell for cell in book["cells"] if cell["cell_type"] == kind]


def outputs(book):
    return [output for cell in cells(book, "code") for output in cell["outputs"]]


def texts(book):
    """All that the outputs say, one string each."""
    for output in outputs(book):
        yield "".join(output.get("text", ""))
        for kind, value in output.get("data", {}).items():
            if kind.startswith("text/"):
                yield "".join(value)
        yield output.get("metadata", {}).get("image/png", {}).get("alt", "")


def prose(book):
    return "\n\n".join(cell["source"] for cell in cells(book, "markdown"))


def headings(text):
    """(level, title) of each heading outside of code."""
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    return [
        (len(marks), title.strip())
        for marks, title in re.findall(r"^(#{1,6}) (.+)$", text, flags=re.M)
    ]


def tables(text):
    """The tables of a Markdown text, each a list of {column: value}."""
    for block in re.findall(r"(?:^\|.*\|[ ]*(?:\n|\Z))+", text, flags=re.M):
        header, _, *rows = (
            [value.strip(" *`") for value in line.strip().strip("|").split("|")]
            for line in block.strip().splitlines()
        )
        yield [dict(zip(header, row, strict=True)) for row in rows]


def results(text):
    """[(model, test accuracy, interval)] of the results tables in a text."""
    found = []
    for table in tables(text):
        columns = list(table[0])
        test = [c for c in columns if re.match(r"test(?! loss)", c)]
        interval = [c for c in columns if "interval" in c]
        if columns[0] == "model" and len(test) == len(interval) == 1:
            found += [(row["model"], row[test[0]], row[interval[0]]) for row in table]
    return found


def exists(path):
    try:
        return bool(committed(path))
    except IsADirectoryError:
        return True
    except OSError:
        return False


# --- the notebook ----------------------------------------------------------------


def test_counted_1_to_n(book):
    counts = [cell["execution_count"] for cell in cells(book, "code")]
    assert counts == list(range(1, len(counts) + 1))


def test_no_error_and_no_stderr(book):
    assert {output["output_type"] for output in outputs(book)} == {
        "stream",
        "display_data",
    }
    assert {o["name"] for o in outputs(book) if "name" in o} == {"stdout"}


def test_on_the_full_set(book):
    told = "\n".join(texts(book))
    assert "MNIST, full: " in told
    assert re.search(r"train_images\s+torch.uint8\s+\(60000, 28, 28\)", told)
    assert re.search(r"test_images\s+torch.uint8\s+\(10000, 28, 28\)", told)
    assert "Sample figures" not in told


def test_no_path_of_a_machine(book):
    for text in [cell["source"] for cell in book["cells"]] + list(texts(book)):
        assert not MACHINE.search(text), text


def test_small_and_without_widgets(book):
    assert len(committed(NOTEBOOK)) < 2_000_000
    assert "widgets" not in book["metadata"]
    for output in outputs(book):
        assert not any("widget" in kind for kind in output.get("data", {}))


def test_pictures_are_described(book):
    pictures = [o for o in outputs(book) if "image/png" in o.get("data", {})]
    assert len(pictures) >= 5
    for picture in pictures:
        alt = picture["metadata"]["image/png"]["alt"]
        assert len(alt.split()) >= 8, alt


def test_headings(book):
    """One H1, in the first cell; then chapters 1 to 12; no level is skipped."""
    found = headings(prose(book))
    assert [level for level, _ in found].count(1) == 1
    assert book["cells"][0]["source"].startswith("# ")
    chapters = [title for level, title in found if level == 2]
    assert [int(title.split(".")[0]) for title in chapters] == list(range(1, 13))
    levels = [level for level, _ in found]
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))


def test_links_within_the_notebook(book):
    anchors = {title.replace(" ", "-") for _, title in headings(prose(book))}
    for _, text, target in LINK.findall(prose(book)):
        if target.startswith("#"):
            assert target[1:] in anchors, text
        elif "://" not in target:
            assert exists(target), target


def test_links_to_chapters_name_them(book):
    """[chapter 6](#6.-Choosing-the-settings), not [chapter 6](#7.-...)."""
    for text, number in re.findall(r"\[chapter (\d+)\]\(#(\d+)", prose(book)):
        assert text == number


def test_model_is_of_this_run(book):
    """Chapter 10 printed the size and SHA-256 of the very model.pth."""
    model = committed("model.pth")
    told = "\n".join(texts(book))
    size = re.search(r"^model\.pth, saved: ([\d,]+) bytes", told, flags=re.M)
    digest = re.search(r"^SHA-256 ([0-9a-f]{64})$", told, flags=re.M)
    assert int(size.group(1).replace(",", "")) == len(model)
    assert digest.group(1) == hashlib.sha256(model).hexdigest()
    assert "logits equal to the last bit: True" in told


def test_reaches_98_percent(book):
    accuracy = {model: test for model, test, _ in results("\n\n".join(texts(book)))}
    assert float(accuracy["MLP, warped"].rstrip("%")) >= 98


def test_figures_in_the_headline_are_outputs(book):
    told = "\n".join(texts(book)).replace(" %", "%")
    first = PERCENT.findall(prose(book).split("\n## ")[0])
    assert first
    for figure in first:
        pattern = rf"(?<![\d.]){re.escape(figure.replace(' ', ''))}"
        assert re.search(pattern, told), figure


# --- the README ------------------------------------------------------------------


def test_the_page_is_read_however_it_is_spoilt(book):
    lines = re.findall(r"^([a-z ]+): (\d+)$", "\n".join(texts(book)), flags=re.M)
    number = "".join(draw_number.LINES)
    spoilt = dict(line for line in lines if len(line[1]) > 5)
    assert len(spoilt) == 6 and set(spoilt.values()) == {number}


def test_readme_results_are_those_of_the_notebook(book, readme):
    expected = results("\n\n".join(texts(book)))
    assert len(expected) >= 3
    assert results(readme) == expected


def test_readme_pictures(readme):
    pictures = [(alt, path) for mark, alt, path in LINK.findall(readme) if mark]
    for tag in re.findall(r"<img\b[^>]*>", readme):
        attributes = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        pictures.append((attributes.get("alt", ""), attributes["src"]))
    assert pictures
    for alt, path in pictures:
        assert len(alt.split()) >= 5, path
        assert committed(path).startswith((b"\x89PNG", b"\xff\xd8\xff"))


def test_readme_links(readme):
    """Files exist; headings too, by GitHub's rule for anchors."""
    anchors = {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for _, title in headings(readme)
    }
    for _, _, target in LINK.findall(CODE.sub("", readme)):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif "://" not in target:
            assert exists(target.split("#")[0]), target


def test_readme_names_no_machine(readme):
    assert not MACHINE.search(readme)


@pytest.mark.parametrize("path", [NOTEBOOK, "README.md", "data/sample/README.md"])
def test_spelling(tmp_path, path):
    content = committed(path)
    text = prose(read(content)) if path == NOTEBOOK else content.decode("utf-8")
    file = tmp_path / "text.md"
    file.write_text(CODE.sub("", text), encoding="utf-8")
    command = [sys.executable, "-m", "codespell_lib", file.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_leftovers():
    """git knows nothing that a run makes anew."""
    command = ["git", "ls-files"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    names = done.stdout.split("\n")
    assert not [n for n in names if n.startswith("img_sample") or n.endswith(".tmp")]
    assert "model_sample.pth" not in names

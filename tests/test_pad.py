"""The pad of chapter 13: its own script, run by V8, against the same sums in Python."""

import json
import re

import pytest
import torch
from hand import HAND, curve
from notebook import ROOT, inputs

py_mini_racer = pytest.importorskip("py_mini_racer", reason="needs mini-racer")
DRAW, DOT = "imageOf(segments, given.pen)", [[[140, 140], [140, 140]]]


def drawings(versions):
    """The digits of HAND, moved, slanted and stretched, anywhere on the pad."""
    generator, drawn = torch.Generator().manual_seed(11), []
    for digit, strokes in [*HAND.items()] * versions:
        segments = []
        width, height, slant, left, top = torch.rand(5, generator=generator).tolist()
        for stroke in strokes:
            x, y = torch.tensor(curve(stroke)[::4], dtype=torch.float32).T / 100
            x = 100 * left + (60 + 120 * width) * (x - (slant - 0.5) / 3 * (y - 0.5))
            line = torch.stack([x, 80 * top + (50 + 150 * height) * y], 1)
            segments.append(torch.stack([line[:-1], line[1:]], 1))
        drawn.append((int(digit), torch.cat(segments)))
    return drawn


def same_in_python(nb, segments):
    """What the script does to segments (K, 2, 2): uint8 (28, 28), by `ink_of`."""
    low, high = segments.amin((0, 1)), segments.amax((0, 1))
    scale = (20 - nb.PAD_PEN) / max(float((high - low).max()), 14)
    lines = (segments - (low + high) / 2) * scale + 13.5
    pen, axis = torch.tensor([nb.PAD_PEN]), torch.arange(28.0)
    ink = nb.ink_of(lines[None, :, 0], lines[None, :, 1], pen)[0]
    mass = torch.stack([ink.sum(0) @ axis, ink.sum(1) @ axis]) / ink.sum()
    lines = lines + (14 - mass).clamp(-4, 4)
    ink = nb.ink_of(lines[None, :, 0], lines[None, :, 1], pen)[0]
    return (255 * ink).round().to(torch.uint8)


@pytest.fixture(scope="module")
def model(nb):
    return nb.load_model(ROOT / "model.pth")


@pytest.fixture(scope="module")
def run(nb, model):
    """A function that evaluates JavaScript beside the pad's script."""
    html = nb.pad_html(model)
    given = re.search(r'<script type="application/json">(.*?)</script>', html, re.S)[1]
    script = re.search(r'<script type="module">(.*?)</script>', html, re.S)[1]
    with py_mini_racer.MiniRacer() as engine:  # closed, or Python may not end

        def run(code, **names):
            for name, value in names.items():
                engine.eval(f"var {name} = {json.dumps(value)}; 0")
            return json.loads(engine.eval(f"JSON.stringify({code})"))

        engine.eval("var document = { querySelectorAll: () => [] };" + script)
        run("0", given=json.loads(given))
        run("given.layers.flat().map((u) => u.splice(0, 2, weightsOf(...u))).length")
        yield run


@pytest.fixture(scope="module")
def pairs(nb, run):
    """For each of 400 drawings its digit, the pad's image and Python's."""
    triples = []
    for digit, segments in drawings(40):
        image = run(DRAW, segments=segments.tolist())
        triples.append((digit, image, same_in_python(nb, segments)))
    return triples


@torch.no_grad()
def chances(nb, model, images):
    return model(inputs(nb, images)).softmax(1)


def test_the_pad_draws_as_the_notebook_does(pairs):
    for _, image, same in pairs:
        image = torch.tensor(image).view(28, 28)
        assert (image - same.int()).abs().max() <= 1
        assert 0 < image.max() <= 255


def test_the_pad_answers_as_the_notebook_does(nb, model, run, pairs):
    wanted = chances(nb, model, torch.stack([same for _, _, same in pairs]))
    answers = [run("chancesOf(image, given)", image=image) for _, image, _ in pairs]
    answers = torch.tensor(answers)
    assert len(answers) >= 200
    assert (answers.argmax(1) == wanted.argmax(1)).float().mean() >= 0.995
    assert (answers - wanted).abs().max() < 0.02  # 0.1 is promised
    digits = torch.tensor([digit for digit, _, _ in pairs])
    assert (answers.argmax(1) == digits).float().mean() > 0.95


def test_with_float_weights_the_answers_are_the_same(nb, model, run, pairs):
    layers = [[k.weight.tolist(), k.bias.tolist()] for k in model.children()]
    layers = [list(zip(*layer)) for layer in layers]
    run("0", exact={"mean": nb.MEAN, "std": nb.STD, "layers": layers})
    images = [image for _, image, _ in pairs]
    answers = [run("chancesOf(image, exact)", image=image) for image in images]
    wanted = chances(nb, model, torch.tensor(images).byte().view(-1, 28, 28))
    assert (torch.tensor(answers) - wanted).abs().max() < 0.001


def test_large_and_small_drawings_look_the_same(run):
    for _, segments in drawings(1):
        sizes = [(segments * k - 20).tolist() for k in (1, 0.4, 3)]
        image, *others = (run(DRAW, segments=size) for size in sizes)
        assert all(abs(a - b) <= 1 for o in others for a, b in zip(image, o))


ODD = {
    "a dot": DOT,
    "two pixels": [[[140, 140], [142, 141]]],
    "out of the pad": [[[10, 10], [900, -300]], [[900, -300], [20, 250]]],
    "a scribble": [[[k % 280, k % 279], [k % 279, k % 280]] for k in range(3000)],
}


@pytest.mark.parametrize("segments", ODD.values(), ids=ODD)
def test_whatever_is_drawn_gets_ten_probabilities(run, segments):
    image = run(DRAW, segments=segments)
    assert len(image) == 784 and 0 < max(image) <= 255 and min(image) == 0
    answer = run("chancesOf(image, given)", image=image)
    assert len(answer) == 10 and abs(sum(answer) - 1) < 1e-9


def test_a_dot_stays_a_dot_and_a_line_is_a_one(run):
    dot = run(DRAW, segments=DOT)
    assert sum(dot) / 255 < 7
    line = "imageOf([[[140, 30], [140, 250]]], given.pen)"
    answer = run(f"chancesOf({line}, given)")
    assert max(answer) == answer[1]


def test_the_output_stands_alone(nb, model):
    html = nb.pad_html(model)
    assert len(html.encode()) <= 250_000
    assert html == nb.pad_html(model)
    assert not re.search(r"\bid=|https?:|\bsrc=|getElementById|window\.", html)
    visible = re.sub(r"<script.*?</script>", "", html, flags=re.S)
    assert "nbconvert" in visible and "style" not in visible

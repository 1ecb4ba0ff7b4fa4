"""read_digits and what it consists of, on pictures made from the sample's digits."""

import numpy as np
import pytest
import torch
from notebook import ROOT
from PIL import Image, ImageDraw, ImageFilter, ImageOps


@pytest.fixture(scope="module")
def model(nb):
    return nb.load_model(ROOT / "model.pth")


@pytest.fixture(scope="module")
def digits(sample):
    """Test digits of the sample, shuffled: uint8 (1000, 28, 28), and their labels."""
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    return sample.test_images[order].numpy(), sample.test_labels[order].tolist()


def page(digits, rows: int, columns: int, enlarge: int = 3, light: int = 235):
    """A sheet (uint8, dark on light) of digits in rows, with gaps; and their labels."""
    images, labels = digits
    step = 28 * enlarge + 20
    sheet = np.zeros((rows * step + 40, columns * step + 40), np.uint8)
    for i in range(rows * columns):
        top, left = 30 + i // columns * step, 30 + i % columns * step
        large = np.kron(images[i], np.ones((enlarge, enlarge), np.uint8))
        sheet[top : top + 28 * enlarge, left : left + 28 * enlarge] = large
    sheet = (light - sheet * (light / 255 * 0.85)).astype(np.uint8)
    return sheet, labels[: rows * columns]


def cropped(image: np.ndarray, height: int) -> Image.Image:
    """A digit without its margin, enlarged to a height in pixels."""
    picture = Image.fromarray(image)
    ink = picture.crop(picture.getbbox())
    return ink.resize((round(height / ink.height * ink.width), height))


def answers(readings) -> list[int]:
    return [reading.digit for reading in readings]


def check_spoilt(nb, model, digits, spoil) -> None:
    """A spoilt page of twelve digits reads as the clean one, but for one at most."""
    sheet, _ = page(digits, 2, 6)
    plain, found = (answers(nb.read_digits(s, model)) for s in (sheet, spoil(sheet)))
    assert len(found) == len(plain) == 12
    assert sum(a == b for a, b in zip(found, plain, strict=True)) >= 11


# --- to_mnist ----------------------------------------------------------------------


def test_enlarged_digits_come_back_nearly_all_identical(nb, digits):
    images = digits[0]
    random = np.random.default_rng(0)
    same = 0
    for image in images:
        k, (down, right) = random.integers(2, 10), random.integers(0, 90, 2)
        large = np.kron(image, np.ones((k, k), np.uint8))
        canvas = np.pad(large, ((down, 90 - down), (right, 90 - right)))
        same += torch.equal(nb.to_mnist(canvas), torch.from_numpy(image))
    assert same >= 0.99 * len(images)


def test_a_thin_pen_becomes_as_wide_as_those_of_mnist(nb):
    ink = np.zeros((400, 260), np.uint8)
    ink[20:380, 20] = ink[20:380, 239] = ink[20, 20:240] = ink[379, 20:240] = 255
    image = nb.to_mnist(ink).float() / 255
    assert 0.08 < float(image.mean()) < 0.45 and image.max() > 0.5


def test_a_pale_hairline_is_not_lost(nb):
    """Brought to 20 pixels, it is paler than what counts as ink elsewhere."""
    assert nb.to_mnist(0.7 * np.eye(1200)).max() > 127


@pytest.mark.parametrize("shape", [(0, 5), (20, 20), (4, 4, 3)])
def test_to_mnist_refuses_what_holds_no_digit(nb, shape):
    with pytest.raises(ValueError):
        nb.to_mnist(np.zeros(shape))


# --- one picture in many forms -------------------------------------------------------


def test_a_page_is_read_in_order(nb, model, digits):
    sheet, labels = page(digits, 3, 6)
    readings = nb.read_digits(sheet, model)
    assert len(readings) == 18
    assert sum(a == b for a, b in zip(answers(readings), labels, strict=True)) >= 17
    height, width = sheet.shape
    for reading in readings:
        left, top, right, bottom = reading.box
        assert 0 <= left < right <= width and 0 <= top < bottom <= height
        assert reading.image.shape == (28, 28) and reading.image.dtype == torch.uint8
        assert reading.sure == (reading.probability >= nb.SURE)


def see_through(picture: Image.Image, ink: int) -> Image.Image:
    """Ink of one grey value on transparent paper."""
    bands = [Image.new("L", picture.size, ink)] * 3 + [ImageOps.invert(picture)]
    return Image.merge("RGBA", bands)


FORMS = {
    "1": lambda p: p.point(lambda v: 255 * (v > 128)).convert("1"),
    "P": lambda p: p.convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE),
    "inverted": ImageOps.invert,
    "transparent, dark ink": lambda p: see_through(p, 0),
    "transparent, bright ink": lambda p: see_through(p, 255),
    "16 bits": lambda p: Image.fromarray(np.asarray(p).astype(np.uint16) * 257),
    "12 bits": lambda p: Image.fromarray(np.asarray(p).astype(np.uint16) * 16),
    "12 bits, array": lambda p: np.asarray(p).astype(np.uint16) * 16,
    "bool": lambda p: np.asarray(p) > 128,
    "float": lambda p: np.asarray(p) / 255,
    "colour array": lambda p: np.asarray(p.convert("RGB")),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_picture_reads_the_same(nb, model, digits, form):
    sheet, labels = page(digits, 2, 5)
    picture = Image.fromarray(sheet)
    plain = answers(nb.read_digits(picture, model))
    assert sum(a == b for a, b in zip(plain, labels, strict=True)) >= 9
    assert answers(nb.read_digits(FORMS[form](picture), model)) == plain


@pytest.mark.parametrize(("orientation", "turn"), [(3, "ROTATE_180"), (6, "ROTATE_90")])
def test_exif_orientation_is_obeyed(nb, model, digits, orientation, turn, tmp_path):
    picture, exif = Image.fromarray(page(digits, 1, 4)[0]), Image.Exif()
    exif[0x0112] = orientation
    turned = picture.transpose(Image.Transpose[turn])
    turned.save(tmp_path / "photo.png", exif=exif)
    pictures = (tmp_path / "photo.png", picture)
    readings, upright = (nb.read_digits(p, model) for p in pictures)
    assert [r[:3] for r in readings] == [r[:3] for r in upright]


@pytest.mark.parametrize("lined", [False, True])
@pytest.mark.parametrize("turn", [1, 3])
def test_a_page_photographed_sideways_is_turned(nb, model, digits, turn, lined):
    """Its boxes lie in the picture as it was given: there is the same ink in them."""
    lying = [i for i, d in enumerate(digits[1]) if d in (2, 3, 4, 5, 7)]  # are none
    sheet, _ = page([[column[i] for i in lying] for column in digits], 2, 4)
    upright = Image.fromarray(ruled(sheet) if lined else sheet)
    sideways = upright.transpose(Image.Transpose(1 + turn))  # ROTATE_90 is 2
    readings, plain = (nb.read_digits(p, model) for p in (sideways, upright))
    assert answers(readings) == answers(plain) and len(plain) == 8
    for reading, other in zip(readings, plain, strict=True):
        greys = sideways.crop(reading.box), upright.crop(other.box)
        means = [np.asarray(grey).mean() for grey in greys]
        assert abs(means[0] - means[1]) < 4


def test_an_upright_page_stays_as_it_is(nb, model, digits):
    """Also one of 6, 9, 0, 1 and 8, which can be read the other way round."""
    images, labels = digits
    chosen = [i for i, label in enumerate(labels) if label in (0, 1, 6, 8, 9)]
    for start in range(0, 60, 4):
        some = chosen[start : start + 4]
        sheet, _ = page((images[some], [labels[i] for i in some]), 1, 4)
        lefts = [reading.box[0] for reading in nb.read_digits(sheet, model)]
        assert lefts == sorted(lefts) and len(lefts) == 4


# --- light, paper, frames ------------------------------------------------------------


def grain(sheet: np.ndarray) -> np.ndarray:
    """A sheet in uneven light, with grain and dark specks."""
    random = np.random.default_rng(3)
    photo = sheet * np.linspace(1, 0.55, sheet.shape[1])
    photo[tuple(random.integers(0, 100, (2, 30)))] = 60
    return np.uint8((photo + random.normal(0, 4, sheet.shape)).clip(0, 255))


def shadow(sheet: np.ndarray, blur: float) -> np.ndarray:
    """The right of a sheet, at half of the light."""
    dark = Image.fromarray(np.uint8(255 * (np.indices(sheet.shape)[1] > 330)))
    dark = np.asarray(dark.filter(ImageFilter.GaussianBlur(blur)))
    return np.uint8(sheet * (1 - dark / 510))


def on_a_table(sheet: np.ndarray, room: int) -> np.ndarray:
    """A sheet, turned by two degrees, on something dark."""
    sheet = np.pad(sheet, room, constant_values=70)
    return np.asarray(Image.fromarray(sheet).rotate(2, fillcolor=70))


def framed(sheet: np.ndarray, kind: str) -> np.ndarray:
    """A `page` of 2 x 6 digits with lines drawn around or under them."""
    picture = Image.fromarray(np.pad(sheet, 40, constant_values=235))
    draw, style = ImageDraw.Draw(picture), {"outline": 40, "width": 3}
    for x, y in np.ndindex(6, 2):
        x, y = 60 + 104 * x, 60 + 104 * y
        if kind == "in a table":
            draw.rectangle((x, y, x + 106, y + 106), **style)
        elif kind == "boxes":
            draw.rectangle((x + 2, y + 2, x + 100, y + 100), **style)
        elif kind == "circles":
            draw.ellipse((x, y, x + 102, y + 102), **style)
    if kind == "one box":
        draw.rectangle((40, 40, 710, 290), **style)
    elif kind == "underlined":
        draw.line((60, 272, 660, 278), 40, width=5)
    return np.asarray(picture)


def corners(sheet: np.ndarray, depth: float) -> np.ndarray:
    """A sheet that gets darker towards its corners, by a share `depth` there."""
    y, x = np.indices(sheet.shape) / np.reshape(sheet.shape, (2, 1, 1)) - 0.5
    return np.uint8(sheet * (1 - 2 * depth * (x * x + y * y)))


def at_the_rim(sheet: np.ndarray) -> np.ndarray:
    """A dark block in a corner, a strip along the bottom: a table, a book's edge."""
    sheet = np.pad(sheet, ((30, 60), (30, 60)), constant_values=235)
    sheet[: len(sheet) // 10, -len(sheet) // 4 :] = 50
    sheet[-len(sheet) // 50 :, : sheet.shape[1] * 2 // 5] = 50
    return sheet


def ruled(
    sheet: np.ndarray,
    bow: float = 0,
    fan: float = 0,
    part: float = 1,
    fall: float = 0,
    grey: int = 150,
) -> np.ndarray:
    """Rules in `grey` on a left part of a sheet.

    They bend by `bow` pixels, have a slope of `fall`, and their slopes differ by `fan`.
    """
    y, x = np.indices(sheet.shape) / np.reshape(sheet.shape, (2, 1, 1))
    rows = y * len(sheet) + bow * np.sin(np.pi * x)
    rows = rows + (fan * (y - 0.5) + fall) * (x - 0.5) * sheet.shape[1]
    return np.where(((rows - 15) % 45 < 2) & (x < part), np.minimum(sheet, grey), sheet)


def broken(sheet: np.ndarray) -> np.ndarray:
    """Strokes with a tenth of their pixels gone, as chalk leaves them."""
    gone = np.random.default_rng(1).random(np.floor_divide(sheet.shape, 2) + 1) < 0.1
    gone = np.kron(gone, np.ones((2, 2), bool))[: sheet.shape[0], : sheet.shape[1]]
    return np.where(gone, sheet.max(), sheet)


def faint(sheet: np.ndarray) -> np.ndarray:
    """A fifth of the contrast, and grain."""
    noise = np.random.default_rng(2).normal(0, 5, sheet.shape)
    return np.uint8((235 - 0.2 * (235.0 - sheet) + noise).clip(0, 255))


SPOILT = {
    "dark corners": lambda sheet: corners(sheet, 0.6),
    "table at the rim": at_the_rim,
    "small sheet on a table": lambda sheet: on_a_table(sheet, 280),
    "small writing": lambda sheet: np.asarray(Image.fromarray(sheet).reduce(4)),
    "bowed rules": lambda sheet: ruled(sheet, bow=6),
    "rules seen at an angle": lambda sheet: ruled(sheet, fan=0.12),
    "half ruled": lambda sheet: ruled(sheet, part=0.55),
    "grid in shade": lambda sheet: corners(framed(sheet, "in a table"), 0.5),
    "broken strokes": broken,
    "faint, with grain": faint,
    "grain": grain,
    "hard shadow": lambda sheet: shadow(sheet, 1),
    "soft shadow": lambda sheet: shadow(sheet, 20),
    "table": lambda sheet: on_a_table(sheet, 150),
    "black border": lambda sheet: np.pad(sheet, 60),
    "board": lambda sheet: np.pad(255 - sheet, 80, constant_values=250),
} | {
    kind: lambda sheet, kind=kind: framed(sheet, kind)
    for kind in ("in a table", "boxes", "circles", "one box", "underlined")
}


@pytest.mark.parametrize("kind", SPOILT)
def test_light_surroundings_and_frames(nb, model, digits, kind):
    check_spoilt(nb, model, digits, SPOILT[kind])


@pytest.mark.parametrize("askew", [0, 1.5, -2.5])
@pytest.mark.parametrize("grey", [110, 190])
@pytest.mark.parametrize("squared", [False, True])
def test_ruled_and_squared_paper(nb, model, digits, squared, grey, askew):
    """Dark or pale rules, level or not: they are gone, and no digit is."""

    def lined(sheet: np.ndarray) -> np.ndarray:
        fall = np.tan(np.radians(askew))
        sheet = ruled(sheet, fall=-fall, grey=grey)
        return ruled(sheet.T, fall=fall, grey=grey).T if squared else sheet

    check_spoilt(nb, model, digits, lined)


@pytest.mark.parametrize("inside", [0.4, 0.05])
def test_what_holds_a_digit_is_a_frame(nb, inside):
    """The digit in it is none, a speck makes none, and a digit beside it neither."""
    digit = [50 - 50 * inside, 40, 50 + 50 * inside, 40 + 100 * inside]
    boxes = np.array(
        [[0, 0, 100, 100], digit, [130, 0, 160, 100], [180, 0, 210, 100]], int
    )
    parts = np.zeros((120, 220), int)
    parts[boxes[:, 1], boxes[:, 0]] = 1, 2, 3, 4
    answers = np.array([0, 5, 8, 3]), np.full(4, 0.99)
    trust = nb.trust_in(nb.View(1.0 * (parts > 0), parts, boxes, None, *answers))
    framed = inside > 0.15
    assert (trust > 0).tolist() == [not framed, framed, True, True]


def test_of_views_that_nobody_trusts_the_last_with_parts_counts(nb):
    views = []
    for n in (3, 1, 0):
        boxes = np.array([[10 * k, 0, 10 * k + 8, 20] for k in range(n)]).reshape(n, 4)
        nothing, doubts = np.zeros((20, 40), int), np.full(n, 0.3)
        views.append(nb.View(nothing, nothing, boxes, None, np.zeros(n, int), doubts))
    assert nb.best_of(views) is views[1]


# --- parts and lines -----------------------------------------------------------------


def test_parts_of_one_digit_are_joined(nb, model, digits):
    """A gap of two pixels in each digit; digits side by side stay apart."""
    images, labels = digits
    right = 0
    for start in range(0, 60, 6):
        sheet, wanted = page((images[start:], labels[start:]), 1, 6)
        sheet[70:72] = sheet.max()  # through the middle of them all
        right += answers(nb.read_digits(sheet, model)) == wanted
    assert right >= 6, f"{right} of 10 lines"


def test_a_long_tail_stays_apart_from_the_digit_below(nb, model, digits):
    """Sevens half as tall again as noughts, which end just above the next line's."""
    noughts, sevens = ([im for im, n in zip(*digits) if n == k] for k in (0, 7))
    right = 0
    for start in range(0, 80, 8):
        sheet = np.zeros((400, 380), np.uint8)
        for i in range(9):
            height, kind = (90, sevens) if i % 3 == 1 else (60, noughts)
            ink = cropped(kind[start + i], 60)
            ink = ink.resize((ink.width, height))
            top, left = 30 + i // 3 * 96, 40 + i % 3 * 104
            sheet[top : top + height, left : left + ink.width] = ink
        found = answers(nb.read_digits(235 - sheet * np.float32(0.75), model))
        right += found == [0, 7, 0] * 3
    assert right >= 8, f"{right} of 10 pages"


def test_two_digits_that_touch_are_read_as_two(nb, model, digits):
    """Equally high, and moved together until twenty pixels of ink overlap."""
    images, labels = digits
    right = 0
    for start in range(0, 120, 3):
        pair = [cropped(image, 100) for image in images[start : start + 2]]
        one, other = map(np.asarray, pair)
        for overlap in range(min(one.shape[1], other.shape[1])):
            ahead = np.pad(one, ((0, 0), (0, other.shape[1] - overlap)))
            behind = np.pad(other, ((0, 0), (one.shape[1] - overlap, 0)))
            if np.sum(np.minimum(ahead, behind) > 100) >= 20:
                break
        sheet = np.pad(np.maximum(ahead, behind), 60)
        found = answers(nb.read_digits(235 - sheet * np.float32(0.75), model))
        right += found == list(labels[start : start + 2])
    assert right >= 20, f"{right} of 40 pairs"


def test_a_broad_digit_stays_one(nb, model, digits):
    """Half as broad again as it was written."""
    whole = 0
    for image in digits[0][:200]:
        ink = cropped(image, 100)
        broad = np.pad(ink.resize((ink.width * 3 // 2, 100)), 60)
        whole += len(nb.read_digits(235 - broad * np.float32(0.75), model)) == 1
    assert whole >= 198, f"{whole} of 200 digits"


@pytest.mark.parametrize("bold", [1, 9])
@pytest.mark.parametrize("light", [False, True])
def test_numbers_cropped_to_their_ink(nb, model, digits, bold, light):
    """Ink is told from paper, and digits that meet the border stay apart."""
    right = 0
    for i in range(0, 200, 5):
        row = []
        for image in digits[0][i : i + 5]:
            ink = cropped(image, 100).filter(ImageFilter.MaxFilter(bold))
            row += [ink, np.zeros((100, 40))]
        sheet = np.hstack(row[:-1]).astype(np.uint8)
        right += len(nb.read_digits(sheet if light else 255 - sheet, model)) == 5
    assert right >= 36, f"five digits found in {right} of 40 numbers"


def test_label_parts_is_what_spreading_finds(nb):
    """The highest number spreads to all eight neighbours, until nothing changes."""
    random = np.random.default_rng(5)
    for density in (0.0, 0.2, 0.45, 0.6, 1.0):
        mask = random.random((40, 60)) < density
        spread, before = mask * np.arange(1.0, 2401).reshape(40, 60), None
        while not np.array_equal(spread, before):
            before, spread = spread, nb.highest(spread, 3, 3) * mask
        parts = nb.label_parts(mask)
        pairs = set(zip(parts[mask], spread[mask], strict=True))
        assert len(pairs) == len(np.unique(spread[mask])) == parts.max()
        assert not parts[~mask].any()


@pytest.mark.parametrize("degrees", [-12, -5, 0, 5, 12])
def test_reading_order_is_line_by_line_even_where_lines_slope(nb, degrees):
    """Three lines of six digits each, their heights and places not quite equal."""
    random = np.random.default_rng(11)
    y, x = (100.0 * np.indices((3, 6)).reshape(2, -1)) * [[1.5], [1]]
    turn = np.radians(degrees)
    x, y = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
    y += random.uniform(-10, 10, 18)
    half = random.uniform(30, 50, 18)
    boxes = np.stack([x - 25, y - half, x + 25, y + half], 1)
    shuffled = random.permutation(18)
    assert shuffled[nb.reading_order(boxes[shuffled])].tolist() == list(range(18))


# --- errors ------------------------------------------------------------------------


NOISE = np.random.default_rng(7).normal(0, 1, (400, 600))
EMPTY = {
    "white": np.full((300, 400), 255, np.uint8),
    "black": np.zeros((300, 400), np.uint8),
    "grey": np.full((30, 40), 128, np.uint8),
    "shade": np.tile(np.linspace(120, 250, 500).astype(np.uint8), (300, 1)),
    "a dot": np.pad(np.zeros((2, 2), np.uint8), 200, constant_values=255),
    "one pixel": np.zeros((1, 1), np.uint8),
    "one row": np.zeros((1, 500), np.uint8),
}


def scribble(seed: int) -> np.ndarray:
    """Twenty strokes across each other."""
    picture = Image.new("L", (600, 600), 240)
    points = np.random.default_rng(seed).integers(80, 520, (20, 2))
    ImageDraw.Draw(picture).line([tuple(map(int, p)) for p in points], 20, 8)
    return np.asarray(picture)


@pytest.mark.parametrize("sheet", EMPTY)
def test_a_picture_without_ink_is_no_digit(nb, model, sheet):
    with pytest.raises(ValueError, match=r"no ink|no digit"):
        nb.read_digits(EMPTY[sheet], model)


def test_a_cross_is_answered_and_not_sure(nb, model):
    """It is a part in coarse views only, and the finest one has none."""
    cross = np.full((1000, 1000), 240, np.uint8)
    cross[470:530, 100:900] = cross[100:900, 470:530] = 20
    assert [reading.sure for reading in nb.read_digits(cross, model)] == [False]


OTHER = {
    "grain": [np.uint8(200 + 3 * NOISE)],
    "much grain": [np.uint8((200 + 15 * NOISE).clip(0, 255))],
    "scribbles": [scribble(seed) for seed in range(20)],
    "empty ruled paper": [ruled(np.uint8(200 + NOISE), fan=f) for f in (0, 0.06, 0.12)],
}


@pytest.mark.parametrize("kind", OTHER)
def test_what_is_no_digit_is_refused_or_not_sure(nb, model, kind):
    """But for scraps between strokes, in a quarter of the scribbles at most."""
    sure = 0
    for sheet in OTHER[kind]:
        try:
            sure += any(reading.sure for reading in nb.read_digits(sheet, model))
        except ValueError:
            pass
    assert sure <= 0.25 * len(OTHER[kind])


def test_thousands_of_strokes_are_not_compared(nb, model):
    """Each with each would take gigabytes."""
    dots = np.full((1500, 1500), 240, np.uint8)
    dots.reshape(75, 20, 75, 20)[:, 4:16, :, 4:16] = 20
    ink = list(nb.propose_ink(1 - nb.load_grey(dots)[0]))
    assert [len(nb.look(proposal, model).boxes) for proposal in ink] == [0] * len(ink)


def test_files_that_are_missing_or_no_pictures(nb, model, digits, tmp_path):
    for missing in (tmp_path / "none.png", tmp_path):
        with pytest.raises(FileNotFoundError, match=missing.name):
            nb.read_digits(missing, model)
    text, cut = tmp_path / "text.png", tmp_path / "cut.jpg"
    text.write_text("not a picture")
    Image.fromarray(page(digits, 4, 6)[0]).save(cut)
    cut.write_bytes(cut.read_bytes()[:5000])
    for file in (text, cut):
        with pytest.raises(ValueError, match="JPEG or PNG"):
            nb.read_digits(file, model)


WRONG = {
    ValueError: [
        *map(np.zeros, [(0, 10), 100, (2, 5, 5, 3), (5, 5, 2)]),
        *(np.full((9, 9), value) for value in (-1, np.nan, np.inf)),
    ],
    TypeError: [np.full((9, 9), "a"), np.full((9, 9), 1j), None],
}


@pytest.mark.parametrize("error", WRONG)
def test_wrong_arrays(nb, model, error):
    for wrong in WRONG[error]:
        with pytest.raises(error, match=r"picture"):
            nb.read_digits(wrong, model)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_more_than_100_megapixels_are_refused_undecoded(nb, model, tmp_path):
    file = tmp_path / "large.png"
    Image.new("1", (20_000, 6_000), 1).save(file)
    with pytest.raises(ValueError, match="100 million"):
        nb.read_digits(file, model)
    Image.new("1", (20_000, 20_000), 1).save(file)
    with pytest.raises(ValueError, match=r"picture|pixels"):
        nb.read_digits(file, model)

"""read_digits and what it consists of, on pictures made from the sample's digits."""

import warnings

import numpy as np
import pytest
import torch
from notebook import ROOT
from PIL import Image, ImageDraw, ImageFilter, ImageOps

NUMBER = ROOT / "img" / "number.jpg"


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
    return (light - sheet * (light / 255 * 0.85)).astype(np.uint8), labels[
        : rows * columns
    ]


def answers(readings) -> list[int]:
    return [reading.digit for reading in readings]


# --- to_mnist ----------------------------------------------------------------------


def test_enlarged_digits_come_back_identical(nb, digits):
    images = digits[0]
    random = np.random.default_rng(0)
    same = 0
    for image in images:
        k, (down, right) = random.integers(2, 10), random.integers(0, 90, 2)
        large = np.kron(image, np.ones((k, k), np.uint8))
        canvas = np.pad(large, ((down, 90 - down), (right, 90 - right)))
        same += torch.equal(nb.to_mnist(canvas), torch.from_numpy(image))
    assert same >= 0.999 * len(images)


def test_shape_type_and_centre_of_mass(nb):
    ink = np.zeros((300, 200), np.float32)
    ink[40:240, 100:120] = 1
    image = nb.to_mnist(ink)
    assert image.shape == (28, 28) and image.dtype == torch.uint8
    rows = torch.nonzero(image.any(1)).flatten()
    assert rows[-1] - rows[0] + 1 == 20
    mass = image.float() / image.sum()
    assert abs((mass.sum(1) @ torch.arange(28.0)) - 14) <= 0.5
    assert abs((mass.sum(0) @ torch.arange(28.0)) - 14) <= 0.5


@pytest.mark.parametrize("thick", [1, 60])
def test_thin_and_bold_pens_are_brought_to_the_range_of_mnist(nb, thick):
    ink = np.zeros((400, 260), np.uint8)
    ink[20:380, 20 : 20 + thick] = ink[20:380, 240 - thick : 240] = 255
    ink[20 : 20 + thick, 20:240] = ink[380 - thick : 380, 20:240] = 255
    image = nb.to_mnist(ink).float() / 255
    share = float(image.mean())
    assert 0.08 < share < 0.45
    if thick == 1:
        assert image.max() > 0.5


def test_a_pen_a_little_too_bold_is_thinned(nb):
    """By a pixel at least: a filter of none kills the process in Pillow 12.3."""
    bar = np.ones((400, 176), np.float32)
    pen = nb.pen_width(bar)
    assert nb.BOLDEST < pen < nb.BOLDEST + 0.25
    assert nb.pen_width(nb.fit_pen(bar)) < pen


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((0, 5)), np.zeros((20, 20)), np.ones((4, 4, 3)), np.full((5, 5), 7.0)],
)
def test_to_mnist_refuses_what_holds_no_digit(nb, wrong):
    with pytest.raises(ValueError):
        nb.to_mnist(wrong)


# --- one picture in many forms -------------------------------------------------------


def test_the_number_of_the_notebook_is_read_in_order(nb, model):
    readings = nb.read_digits(NUMBER, model)
    assert answers(readings) == [1, 6, 0, 4, 7, 3, 9, 2, 8, 5]
    width, height = Image.open(NUMBER).size
    for reading in readings:
        left, top, right, bottom = reading.box
        assert 0 <= left < right <= width and 0 <= top < bottom <= height
        assert reading.image.shape == (28, 28) and reading.image.dtype == torch.uint8
        assert reading.sure == (reading.probability >= nb.SURE)


FORMS = {
    "1": lambda p: p.point(lambda v: 255 * (v > 128)).convert("1"),
    "P": lambda p: p.convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE),
    "RGB": lambda p: p.convert("RGB"),
    "CMYK": lambda p: p.convert("RGB").convert("CMYK"),
    "inverted": ImageOps.invert,
    "16 bits": lambda p: Image.fromarray(np.asarray(p).astype(np.uint16) * 257),
    "transparent": lambda p: Image.merge(
        "RGBA", [Image.new("L", p.size)] * 3 + [ImageOps.invert(p)]
    ),
    "bool": lambda p: np.asarray(p) > 128,
    "float": lambda p: np.asarray(p) / 255,
    "colour array": lambda p: np.asarray(p.convert("RGB")),
    "one channel": lambda p: np.asarray(p)[:, :, None],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_picture_reads_the_same(nb, model, digits, form):
    sheet, labels = page(digits, 2, 5)
    picture = Image.fromarray(sheet)
    plain = answers(nb.read_digits(picture, model))
    assert sum(a == b for a, b in zip(plain, labels, strict=True)) >= 9
    assert answers(nb.read_digits(FORMS[form](picture), model)) == plain


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "tiff", "webp"])
def test_every_kind_of_file_reads_the_same(nb, model, digits, suffix, tmp_path):
    picture = Image.fromarray(page(digits, 2, 5)[0])
    file = tmp_path / f"número 1.{suffix}"
    picture.save(file)
    expected = answers(nb.read_digits(picture, model))
    assert answers(nb.read_digits(file, model)) == expected
    assert answers(nb.read_digits(str(file), model)) == expected


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_obeyed(nb, model, digits, orientation, tmp_path):
    picture = Image.fromarray(page(digits, 1, 4)[0])
    upright = nb.read_digits(picture, model)
    turns = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    for turn in turns.get(orientation, []):
        picture = picture.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "photo.png", exif=exif)
    readings = nb.read_digits(tmp_path / "photo.png", model)
    assert answers(readings) == answers(upright)
    assert [r.box for r in readings] == [r.box for r in upright]


def test_position_border_and_size_do_not_matter(nb, model, digits):
    images, labels = digits
    for i in range(10):
        found = set()
        for enlarge, border in (
            (3, (5, 5, 5, 5)),
            (6, (90, 10, 20, 160)),
            (9, (9, 70, 200, 3)),
        ):
            large = np.kron(images[i], np.ones((enlarge, enlarge), np.uint8))
            top, bottom, left, right = border
            ink = np.pad(large, ((top, bottom), (left, right)))
            found.add(tuple(answers(nb.read_digits(255 - ink, model))))
        assert len(found) == 1 and len(found.pop()) == 1


def test_uneven_light_grain_and_specks(nb, model, digits):
    sheet, labels = page(digits, 2, 6)
    random = np.random.default_rng(3)
    light = np.linspace(1, 0.55, sheet.shape[1])[None, :]
    photo = sheet * light + random.normal(0, 4, sheet.shape)
    for y, x in random.integers(0, 100, (30, 2)):
        photo[y, x] = 60
    readings = answers(nb.read_digits(photo.clip(0, 255).astype(np.uint8), model))
    assert sum(a == b for a, b in zip(readings, labels, strict=True)) >= 11


@pytest.mark.parametrize("share", [0.25, 0.4])
def test_faint_digits_beside_dark_ones(nb, model, digits, share):
    sheet, _ = page(digits, 2, 6)
    plain = answers(nb.read_digits(sheet, model))
    for left in (124, 436):  # the second and the fifth of each row
        column = sheet[:, left : left + 104]
        column[:] = 235 - (235 - column) * share
    readings = answers(nb.read_digits(sheet, model))
    assert len(readings) == len(plain) == 12
    assert sum(a == b for a, b in zip(readings, plain, strict=True)) >= 11


def test_thousands_of_strokes_are_refused(nb, model):
    """Before they take gigabytes."""
    dots = np.full((1500, 1500), 240, np.uint8)
    dots.reshape(75, 20, 75, 20)[:, 4:16, :, 4:16] = 20
    with pytest.raises(ValueError, match="2,000 strokes"):
        nb.read_digits(dots, model)


def test_many_faint_specks_are_no_digits(nb, model, digits):
    sheet, _ = page(digits, 1, 4)
    plain = answers(nb.read_digits(sheet, model))
    specks = np.random.default_rng(0).random(sheet.shape) < 0.01
    speckled = np.where(specks, sheet * 0.7, sheet).astype(np.uint8)
    assert answers(nb.read_digits(speckled, model)) == plain


def test_faint_creases_are_no_digits(nb, model, digits):
    sheet, _ = page(digits, 2, 6)
    plain = answers(nb.read_digits(sheet, model))
    crease = Image.new("L", sheet.shape[::-1])
    for left, top in ((110, 60), (330, 70), (220, 160), (430, 150)):
        line = (left, top, left + 25, top + 70)
        ImageDraw.Draw(crease).line(line, 38, width=4)
    creased = np.uint8(np.maximum(0.0, sheet - np.asarray(crease, float)))
    assert answers(nb.read_digits(creased, model)) == plain


def shadow(sheet: np.ndarray, blur: float) -> np.ndarray:
    """The right of a sheet, at half of the light."""
    y, x = np.indices(sheet.shape)
    dark = Image.fromarray(np.uint8(255 * (x > 330)))
    dark = np.asarray(dark.filter(ImageFilter.GaussianBlur(blur)))
    return np.uint8(sheet * (1 - dark / 510))


def on_a_table(
    sheet: np.ndarray, room: int, grey: int = 70, angle: float = 2
) -> np.ndarray:
    """A sheet, turned by a few degrees, on something dark."""
    sheet = np.pad(sheet, room, constant_values=grey)
    return np.asarray(Image.fromarray(sheet).rotate(angle, fillcolor=grey))


def lamp(sheet: np.ndarray, blur: float) -> np.ndarray:
    """A sheet in dim light with a bright spot on its left."""
    y, x = np.indices(sheet.shape)
    spot = np.exp(-np.square(np.hypot(x - 150, y - 120) / blur))
    return np.uint8(sheet * (0.6 + 0.4 * spot))


LIGHT = {
    "hard shadow": lambda sheet: shadow(sheet, 1),
    "soft shadow": lambda sheet: shadow(sheet, 20),
    "lamp": lambda sheet: lamp(sheet, 120),
    "table": lambda sheet: on_a_table(sheet, 150),
    "rim of a table": lambda sheet: on_a_table(sheet, 30),
    "black border": lambda sheet: np.pad(sheet, 60),
    "askew": lambda sheet: on_a_table(sheet, 250, grey=40, angle=12),
    "board": lambda sheet: np.pad(255 - sheet, 80, constant_values=250),
    "strip": lambda sheet: np.pad(sheet, ((0, 0), (900, 900)), constant_values=235),
}


@pytest.mark.parametrize("light", LIGHT)
def test_shadows_lamps_and_tables(nb, model, digits, light):
    sheet, _ = page(digits, 2, 6)
    plain = answers(nb.read_digits(sheet, model))
    readings = answers(nb.read_digits(LIGHT[light](sheet), model))
    assert len(readings) == len(plain) == 12
    assert sum(a == b for a, b in zip(readings, plain, strict=True)) >= 11


@pytest.mark.parametrize("margin", [30, 80])
def test_one_digit_on_a_sheet_on_a_table_or_on_a_board(nb, model, digits, margin):
    for image in digits[0][:30]:
        large = np.pad(np.kron(image, np.ones((6, 6), np.uint8)), margin)
        sheet = np.uint8(220 - large * 0.7)
        (plain,) = answers(nb.read_digits(sheet, model))
        table = np.pad(sheet, 70, constant_values=75)
        board = np.pad(255 - sheet, 70, constant_values=245)
        for surrounded in (table, board):
            assert answers(nb.read_digits(surrounded, model)) == [plain]


def test_bold_digits_are_no_sheets(nb, digits):
    whole = 0
    for image in digits[0][:300]:
        bold = Image.fromarray(np.pad(np.kron(image, np.ones((4, 4), np.uint8)), 4))
        bold = np.asarray(bold.filter(ImageFilter.MaxFilter(7)), np.float32) / 255
        whole += nb.find_sheet(bold).all() and nb.find_sheet(1 - bold).all()
    assert whole >= 297


def test_an_empty_sheet_on_a_table_is_refused(nb, model):
    with pytest.raises(ValueError, match="ink"):
        nb.read_digits(on_a_table(np.full((300, 400), 230, np.uint8), 100), model)


@pytest.mark.parametrize("askew", [0, 1.5, -2.5])
@pytest.mark.parametrize("grey", [110, 190])
@pytest.mark.parametrize("squared", [False, True])
def test_ruled_and_squared_paper(nb, model, digits, squared, grey, askew):
    """Dark or pale rules, level or not: they are gone, and no digit is."""
    sheet, _ = page(digits, 2, 6)
    plain = answers(nb.read_digits(sheet, model))
    y, x = np.indices(sheet.shape)
    fall = np.tan(np.radians(askew))
    rules = (y - fall * x - 15) % 45 < 2
    if squared:
        rules |= (x + fall * y - 15) % 45 < 2
    ruled = np.where(rules, np.minimum(sheet, grey), sheet)
    readings = answers(nb.read_digits(ruled, model))
    assert len(readings) == len(plain)
    assert sum(a == b for a, b in zip(readings, plain, strict=True)) >= 11


def framed(sheet: np.ndarray, kind: str) -> np.ndarray:
    """A `page` of 2 x 6 digits with lines drawn around or under them."""
    picture = Image.fromarray(np.pad(sheet, 40, constant_values=235))
    draw = ImageDraw.Draw(picture)
    cells = [(60 + 104 * i, 60 + 104 * k) for k in range(2) for i in range(6)]
    style = {"outline": 40, "width": 3}
    for x, y in cells:
        if kind == "table":
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


@pytest.mark.parametrize("kind", ["table", "boxes", "circles", "one box", "underlined"])
def test_frames_and_underlines_are_no_digits(nb, model, digits, kind):
    sheet, _ = page(digits, 2, 6)
    plain = answers(nb.read_digits(sheet, model))
    readings = answers(nb.read_digits(framed(sheet, kind), model))
    assert len(readings) == len(plain) == 12
    assert sum(a == b for a, b in zip(readings, plain, strict=True)) >= 11


def test_no_digit_is_a_frame(nb, digits):
    for image in digits[0][:300]:
        ink = np.pad(np.kron(image / np.float32(255), np.ones((3, 3))), 5)
        assert np.array_equal(nb.remove_frames(ink), ink)
    ring = np.zeros((60, 60), np.float32)
    ring[5:55, 5:55], ring[9:51, 9:51] = 1, 0
    ring[28:32, 15:45] = 1  # what is left of a rule
    assert np.array_equal(nb.remove_frames(ring), ring)


def test_parts_of_one_digit_stay_together(nb):
    bar_of_five = np.array([[10, 20, 40, 80], [35, 12, 60, 18], [80, 15, 90, 80]])
    assert nb.join_parts(bar_of_five, 6.0).tolist() == [0, 0, 2]
    broken_eight = np.array([[10, 10, 50, 44], [12, 48, 52, 90], [90, 10, 130, 90]])
    first, second, third = nb.join_parts(broken_eight, 6.0)
    assert first == second != third


@pytest.mark.parametrize("apart", [25, 45])
def test_leaning_strokes_side_by_side_stay_two(nb, model, apart):
    """Though their boxes overlap."""
    sheet = Image.new("L", (260, 240), 240)
    for x in (60, 60 + apart):
        ImageDraw.Draw(sheet).line([(x, 190), (x + 60, 50)], 20, width=10)
    assert answers(nb.read_digits(sheet, model)) == [1, 1]


def two_parts(nb, pictures) -> list:
    """What is found in pictures (28, W) of ink, enlarged: those of two digits only."""
    pictures = [np.kron(np.pad(p, 9), np.ones((4, 4))) / 255 for p in pictures]
    return [f for f in map(nb.find_digits, pictures) if len(f) == 2]


def test_digits_cut_in_two_become_one_where_they_are_read_as_one(nb, model, digits):
    images, gap = digits[0][:200], np.zeros((28, 1))
    cut = [np.hstack([image[:, :14], gap, image[:, 15:]]) for image in images]
    halves = two_parts(nb, cut)
    one = [f for f in (nb.join_doubtful(h, model) for h in halves) if len(f) == 1]
    assert len(halves) >= 100 and len(one) >= len(halves) / 2
    assert (nb.surest([f[0] for f in one], model) >= nb.SURE).all()


def test_narrow_digits_close_together_stay_two(nb, model, digits):
    slim = [image[:, image.any(0)] for image in digits[0]]
    slim = [image for image in slim if image.shape[1] <= 11]  # wide ones aren't close
    pairs = zip(slim[:-1], slim[1:], strict=True)
    pairs = two_parts(nb, [np.hstack([a, np.zeros((28, 1)), b]) for a, b in pairs])
    joined = sum(len(nb.join_doubtful(pair, model)) == 1 for pair in pairs)
    assert len(pairs) >= 95 and joined <= 1


def test_strokes_that_meet_beyond_the_border_are_one_digit(nb):
    sheet = Image.new("L", (120, 140))
    ImageDraw.Draw(sheet).ellipse((20, 20, 99, 119), outline=255, width=8)
    arcs = np.asarray(sheet, np.float32)[29:-29] / 255  # a zero without its ends
    assert len(nb.find_digits(arcs)) == len(nb.find_digits(arcs.T)) == 1
    assert len(nb.find_digits(np.pad(arcs, 20))) == 2  # no border, no beyond


def test_ones_cropped_to_their_very_height_stay_two(nb, digits):
    ones = [image for image, label in zip(*digits, strict=True) if label == 1]
    ones = [nb.crop(image / np.float32(255)) for image in ones[:60]]
    ones = [nb.resize(one, (max(4, one.shape[1] * 5), 100)) for one in ones]
    pairs = zip(ones[::2], ones[1::2], strict=True)
    pairs = [np.hstack([a, np.zeros((100, 12)), b]) for a, b in pairs]
    assert sum(len(nb.find_digits(pair)) == 2 for pair in pairs) >= 29


def test_long_strokes_in_a_flat_picture_are_no_error(nb):
    parts = np.zeros((30, 900), int)
    parts[:, 400], parts[29, 30:401] = 1, 1
    parts[:, 420], parts[29, 420:800] = 2, 2
    assert nb.join_cut(parts).max() == 2


def test_two_digits_as_one_keep_their_ink_and_their_place(nb):
    one, other = nb.find_digits(nb.find_ink(nb.load_grey(NUMBER)[0]))[:2]
    both = nb.together(one, other)
    assert both.box[:2].tolist() == np.minimum(one.box, other.box)[:2].tolist()
    assert both.box[2:].tolist() == np.maximum(one.box, other.box)[2:].tolist()
    assert both.ink.sum() == pytest.approx(one.ink.sum() + other.ink.sum())
    left, top = one.box[:2] - both.box[:2]
    height, width = one.ink.shape
    assert np.array_equal(both.ink[top : top + height, left : left + width], one.ink)


@pytest.mark.parametrize("specks", [0, 3, 12])
def test_specks_do_not_change_which_parts_belong_together(nb, specks):
    """An eight in two loops, a gap between them, beside a whole digit."""
    ink = np.zeros((300, 400), np.float32)
    for top, left, height in ((60, 60, 80), (152, 60, 80), (60, 250, 172)):
        ink[top : top + height, left : left + 70] = 1
        ink[top + 10 : top + height - 10, left + 10 : left + 60] = 0
    for i in range(specks):
        ink[20 + i % 2 * 3, 20 + 30 * i] = 1
    assert len(nb.find_digits(ink)) == 2


def test_a_zero_that_the_border_cuts_in_two_is_one_digit(nb, model):
    """Two arcs whose ends leave the picture close together; two bars stay two."""
    y, x = np.mgrid[-62:62, -60:60]
    ring = np.abs(np.hypot(x / 48, y / 70) - 1) < 0.08
    assert nb.label_parts(ring).max() == 2
    assert answers(nb.read_digits(np.where(ring, 20, 240).astype(np.uint8), model)) == [
        0
    ]
    bars = np.full((120, 160), 240, np.uint8)
    bars[:, 40:48] = bars[:, 100:108] = 20
    assert len(nb.read_digits(bars, model)) == 2


def cropped_number(images, bold: int) -> np.ndarray:
    """Ink (100, W), uint8: digits of equal height in a row, nothing around them."""
    row = []
    for image in images:
        ink = Image.fromarray(image).crop(Image.fromarray(image).getbbox())
        ink = ink.resize((ink.width * 100 // ink.height, 100))
        if bold:
            ink = ink.filter(ImageFilter.MaxFilter(bold))
        row += [np.asarray(ink), np.zeros((100, 40))]
    return np.hstack(row[:-1]).astype(np.uint8)


@pytest.mark.parametrize("bold", [0, 9])
@pytest.mark.parametrize("light", [False, True])
def test_numbers_cropped_to_their_ink(nb, model, digits, bold, light):
    """Ink is told from paper, and digits that meet the border stay apart."""
    images, _ = digits
    right = 0
    for i in range(0, 200, 5):
        sheet = cropped_number(images[i : i + 5], bold)
        readings = nb.read_digits(sheet if light else 255 - sheet, model)
        right += len(readings) == 5
    assert right >= 36, f"five digits found in {right} of 40 numbers"


def test_a_one_at_the_border_is_no_shadow(nb):
    """Unless it is taller than the writing."""
    ink = np.zeros((100, 200), np.float32)
    ink[:, 194:] = 1
    for top, count in ((0, 2), (30, 1)):
        ring = np.zeros_like(ink)
        ring[top:, 20:80], ring[top + 12 : -12, 32:68] = 1, 0
        assert len(nb.find_digits(np.maximum(ink, ring))) == count


def test_label_parts_agrees_with_a_flood_fill(nb):
    random = np.random.default_rng(5)
    for density in (0.2, 0.45, 0.6):
        mask = random.random((40, 60)) < density
        labels, number = np.zeros(mask.shape, int), 0
        for start in zip(*np.nonzero(mask), strict=True):
            if labels[start]:
                continue
            number += 1
            stack = [start]
            while stack:
                y, x = stack.pop()
                if labels[y, x] or not mask[y, x]:
                    continue
                labels[y, x] = number
                stack += [
                    (v, u)
                    for v in range(max(0, y - 1), min(40, y + 2))
                    for u in range(max(0, x - 1), min(60, x + 2))
                ]
        parts = nb.label_parts(mask)
        assert len(set(zip(parts.ravel(), labels.ravel(), strict=True))) == number + 1


def test_upright_takes_away_any_slant(nb, digits):
    """What was pushed to the left or right ends as what was not, nearly."""
    images = torch.from_numpy(digits[0][:200]).unsqueeze(1) / 255
    straight = nb.upright(images)
    for slant in (-0.4, 0.4):
        leaning = nb.push(images, torch.full([200], slant))
        before = (leaning - images).abs().sum()
        assert (nb.upright(leaning) - straight).abs().sum() < 0.4 * before
    assert torch.equal(nb.upright(torch.zeros(1, 1, 28, 28)), torch.zeros(1, 1, 28, 28))


def test_two_looks_are_the_mean_of_both(nb, model, digits):
    images = torch.from_numpy(digits[0][:50])
    found = nb.two_looks(images, model)
    ink = images.unsqueeze(1) / 255
    with torch.no_grad():
        looks = [
            model((look - nb.MEAN) / nb.STD).double().softmax(1)
            for look in (ink, nb.upright(ink))
        ]
    torch.testing.assert_close(found, (looks[0] + looks[1]) / 2)
    assert not torch.equal(looks[0], looks[1])


def test_a_second_look_helps_where_digits_lean(nb, model, digits):
    """More of them are right than with the network alone."""
    images, labels = torch.from_numpy(digits[0]).unsqueeze(1) / 255, digits[1]
    leaning = nb.push(images, torch.full([len(images)], 0.6))
    with torch.no_grad():
        once = model((leaning - nb.MEAN) / nb.STD).argmax(1)
    twice = nb.two_looks((255 * leaning[:, 0]).round().byte(), model).argmax(1)
    labels = torch.tensor(labels)
    assert (twice == labels).sum() > (once == labels).sum()


def test_reading_order_is_line_by_line(nb):
    boxes = np.array(
        [[50, 12, 60, 40], [10, 100, 20, 130], [10, 5, 20, 35], [40, 95, 50, 128]]
    )
    assert nb.reading_order(boxes) == [2, 0, 1, 3]


@pytest.mark.parametrize("degrees", [-12, -5, 5, 12])
def test_lines_may_run_up_or_down(nb, degrees):
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


def test_a_picture_of_somebody_else_is_left_as_it_was(nb, model):
    with Image.open(NUMBER) as picture:
        size = picture.size
        nb.read_digits(picture, model)
        assert picture.size == size


# --- errors ------------------------------------------------------------------------


def noise(spread: float) -> np.ndarray:
    random = np.random.default_rng(7)
    return random.normal(200, spread, (400, 600)).clip(0, 255).astype(np.uint8)


EMPTY = {
    "white": np.full((300, 400), 255, np.uint8),
    "black": np.zeros((300, 400), np.uint8),
    "grey": np.full((30, 40), 128, np.uint8),
    "shade": np.tile(np.linspace(120, 250, 500).astype(np.uint8), (300, 1)),
    "grain": noise(3),
    "much grain": noise(15),
    "a dot": np.pad(np.zeros((2, 2), np.uint8), 200, constant_values=255),
    "one pixel": np.zeros((1, 1), np.uint8),
    "one row": np.zeros((1, 500), np.uint8),
}


@pytest.mark.parametrize("sheet", EMPTY)
def test_a_picture_without_ink_is_no_digit(nb, model, sheet):
    with pytest.raises(ValueError, match=r"no ink|no digit"):
        nb.read_digits(EMPTY[sheet], model)


def test_missing_file(nb, model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        nb.read_digits(tmp_path / "none.png", model)
    with pytest.raises(FileNotFoundError):
        nb.read_digits(tmp_path, model)


def test_files_that_are_no_pictures(nb, model, tmp_path):
    text, cut = tmp_path / "text.png", tmp_path / "cut.jpg"
    text.write_text("not a picture")
    cut.write_bytes(NUMBER.read_bytes()[:30000])
    for file in (text, cut):
        with pytest.raises(ValueError, match=r"picture"):
            nb.read_digits(file, model)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (np.zeros((0, 10), np.uint8), ValueError),
        (np.zeros(100, np.uint8), ValueError),
        (np.zeros((2, 5, 5, 3), np.uint8), ValueError),
        (np.zeros((5, 5, 2), np.uint8), ValueError),
        (np.full((9, 9), 300), ValueError),
        (np.full((9, 9), np.nan), ValueError),
        (np.full((9, 9), "a"), TypeError),
        (np.full((9, 9), 1j), TypeError),
        (None, TypeError),
        (7, (ValueError, TypeError)),
    ],
)
def test_wrong_arrays(nb, model, wrong, error):
    with pytest.raises(error):
        nb.read_digits(wrong, model)


def test_more_than_100_megapixels_are_refused_undecoded(nb, model, tmp_path):
    file = tmp_path / "large.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Image.new("1", (20_000, 6_000), 1).save(file)
        with pytest.raises(ValueError, match="100 million"):
            nb.read_digits(file, model)
    Image.new("1", (20_000, 20_000), 1).save(file)
    with pytest.raises(ValueError, match=r"picture|pixels"):
        nb.read_digits(file, model)

"""Mapping files, and every kind of mask."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from salakseg.classes import (
    ClassMapping,
    MaskReading,
    count_colors,
    find_class_mapping,
    labels_of_colors,
    packaged_class_mapping,
    read_class_mapping,
    read_mask,
)
from salakseg.errors import InputError
from salakseg.masks import packed, unpacked

SAMPLES = Path(__file__).parent / "samples" / "dubai"
# Row 1 is ignored, so rows 0, 1, 2, 3 are the class indices 0, 255, 1, 2.
MAPPING = ClassMapping(
    (
        ("water", (0, 0, 200), False),
        ("void", (100, 100, 100), True),
        ("road", (200, 0, 0), False),
        ("trees", (0, 200, 0), False),
    )
)
ROWS = np.array([[0, 1, 2, 3], [3, 2, 1, 0]], np.uint8)
LABELS = [[0, 255, 1, 2], [2, 1, 255, 0]]
TABLE = np.array([color for _, color, _ in MAPPING.rows], np.uint8)
COLORS = TABLE[ROWS]


def read(tmp_path: Path, picture: np.ndarray | Image.Image, name: str = "m.png") -> MaskReading:
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    picture.save(tmp_path / name)
    return read_mask(tmp_path / name, MAPPING)


def palette_image(rows: np.ndarray, colors: np.ndarray) -> Image.Image:
    image = Image.fromarray(rows)
    image.putpalette(colors.astype(np.uint8).tobytes())
    return image


@pytest.mark.parametrize("name", ["m.png", "m.tif"])
@pytest.mark.parametrize(
    ("picture", "kind"),
    [
        (COLORS, "RGB colours"),
        (np.dstack([COLORS, np.full((2, 4), 255, np.uint8)]), "RGBA colours"),
        (palette_image(3 - ROWS, TABLE[::-1]), "palette colours"),
        (palette_image(ROWS, np.arange(12) + 40), "palette numbers"),
        (ROWS, "grey numbers"),
        (ROWS.astype(np.uint16), "grey numbers"),
    ],
)
def test_every_kind_of_mask(
    tmp_path: Path, picture: np.ndarray | Image.Image, kind: str, name: str
) -> None:
    reading = read(tmp_path, picture, name)
    assert reading.labels.dtype == np.uint8
    assert reading.labels.tolist() == LABELS
    assert (reading.kind, reading.unknown, reading.smeared) == (kind, {}, 0)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("driver", "bits"), [("PNG", 2), ("PNG", 4), ("GTiff", 2), ("GTiff", 4), ("GTiff", 8)]
)
def test_grey_of_few_bits_holds_row_numbers(tmp_path: Path, driver: str, bits: int) -> None:
    import rasterio

    path = tmp_path / "mask"
    with rasterio.open(path, "w", driver, 4, 2, 1, dtype="uint8", nbits=bits) as raster:
        raster.write(ROWS, 1)
    assert read_mask(path, MAPPING).labels.tolist() == LABELS


def test_transparent_pixels_have_no_class_and_are_not_unknown(tmp_path: Path) -> None:
    picture = np.dstack([COLORS, np.full((2, 4), 255, np.uint8)])
    picture[0, 0] = (9, 9, 9, 0)
    reading = read(tmp_path, picture)
    assert reading.labels.tolist() == [[255, 255, 1, 2], LABELS[1]]
    assert reading.unknown == {}


def test_unknown_colours_are_counted(tmp_path: Path) -> None:
    picture = COLORS.copy()
    picture[0, :2], picture[1, 3] = (1, 2, 3), (0, 0, 199)
    reading = read(tmp_path, picture)
    assert reading.unknown == {"1 2 3": 2, "0 0 199": 1}
    assert reading.labels.tolist() == [[255, 255, 1, 2], [2, 1, 255, 255]]


def test_row_numbers_out_of_range_are_counted_and_255_is_no_class(tmp_path: Path) -> None:
    reading = read(tmp_path, np.array([[0, 4, 4, 255]], np.uint8))
    assert reading.labels.tolist() == [[0, 255, 255, 255]]
    assert reading.unknown == {"4": 2}
    reading = read(tmp_path, np.array([[2, 300, 65535]], np.uint16))
    assert reading.labels.tolist() == [[1, 255, 255]]
    assert reading.unknown == {"300": 1, "65535": 1}
    reading = read(tmp_path, np.array([[2, -1]], np.int32), "m.tif")
    assert reading.labels.tolist() == [[1, 255]]
    assert reading.unknown == {}  # as 255, a way to say that nothing is known
    reading = read(tmp_path, np.array([[2, -9999, 70000]], np.int32), "m.tif")
    assert reading.labels.tolist() == [[1, 255, 255]]
    assert reading.unknown == {"less than -1": 1, "more than 65535": 1}


def test_a_stray_colour_does_not_turn_a_class_palette_into_row_numbers(tmp_path: Path) -> None:
    stray = np.vstack([TABLE[::-1], [[1, 2, 3]]])
    rows = 3 - ROWS
    rows[0, 0] = 4
    reading = read(tmp_path, palette_image(rows, stray))
    assert reading.kind == "palette colours"
    assert reading.labels.tolist() == [[255, 255, 1, 2], LABELS[1]]
    assert reading.unknown == {"1 2 3": 1}


def test_jpeg_gives_the_nearest_class_within_a_distance(tmp_path: Path) -> None:
    picture = COLORS.repeat(16, 0).repeat(16, 1)
    picture[:16, :16] = (250, 250, 0)
    picture[16:, :16] = (20, 180, 20)  # 35 from trees
    Image.fromarray(picture).save(tmp_path / "m.jpg", quality=95, subsampling=0)
    reading = read_mask(tmp_path / "m.jpg", MAPPING)
    assert reading.kind == "JPEG colours (nearest)"
    assert (reading.labels[2:14, 2:14] == 255).all()
    assert (reading.labels[18:30, 2:14] == 2).all()
    for column, label in ((1, 255), (2, 1), (3, 2)):
        assert (reading.labels[2:14, 16 * column + 2 : 16 * column + 14] == label).all()
    assert reading.smeared >= 256
    assert sum(reading.unknown.values()) >= 12 * 12


GREY = ClassMapping(
    (("low", (1, 1, 1), False), ("mid", (0, 0, 0), False), ("high", (90,) * 3, False))
)


def test_grey_masks_by_colours_and_where_they_could_be_either(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    Image.fromarray(np.array([[1, 0, 90]], np.uint8)).save(path)
    reading = read_mask(path, GREY)
    assert (reading.kind, reading.labels.tolist()) == ("grey numbers", [[0, 1, 2]])
    Image.fromarray(np.array([[1, 0]], np.uint8)).save(path)
    with pytest.raises(
        InputError, match=r"m\.png: their numbers \[0, 1\] .* save the masks as RGB"
    ):
        read_mask(path, GREY)
    Image.fromarray(np.array([[1, 2]], np.uint8)).save(path)
    assert read_mask(path, GREY).kind == "grey numbers"


def test_one_bit_masks(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    Image.fromarray(np.array([[True, False]])).save(path)
    with pytest.raises(
        InputError, match="1-bit mask can tell two classes apart, the mapping has 4"
    ):
        read_mask(path, MAPPING)
    two = ClassMapping((("land", (1, 2, 3), False), ("palm", (4, 5, 6), False)))
    assert read_mask(path, two).labels.tolist() == [[1, 0]]
    white_first = ClassMapping((("palm", (255,) * 3, False), ("land", (0, 0, 0), False)))
    assert read_mask(path, white_first).labels.tolist() == [[0, 1]]


def test_masks_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.png: the mask cannot be read"):
        read_mask(tmp_path / "gone.png", MAPPING)
    (tmp_path / "text.png").write_text("no image", encoding="utf-8")
    with pytest.raises(InputError, match=r"text\.png: the mask cannot be read"):
        read_mask(tmp_path / "text.png", MAPPING)
    for picture in (Image.new("CMYK", (2, 2)), Image.fromarray(np.full((2, 2), 0.5, np.float32))):
        with pytest.raises(InputError, match=r"m\.tif: .* hold no class colours or numbers"):
            read(tmp_path, picture, "m.tif")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the first line must be class_name,class_color"),
        ("name;color\n", "the first line must be"),
        ("class_name,class_color\n,1 2 3\n", "line 2: no class_name"),
        ("class_name,class_color\na\n", r"line 2 \(a\): class_color must be three numbers"),
        ("class_name,class_color\na,1 2\n", "not '1 2'"),
        ("class_name,class_color\na,1 2 256\n", "not '1 2 256'"),
        ("class_name,class_color\na,1 2 -3\n", "not '1 2 -3'"),
        ("class_name,class_color,ignore\na,1 2 3,maybe\n", "ignore must be yes, no or empty"),
        ("class_name,class_color\na,1 2 3\na,1 2 4\n", "line 3: the class name 'a' comes twice"),
        ("class_name,class_color\na,1 2 3\nb,1 2 3\n", "b has the same colour as a"),
        ("class_name,class_color,ignore\na,1 2 3,\nb,1 2 4,yes\n", "at least two classes"),
        ("class_name,class_color,mask_value\na,1 2 3,x\n", "mask_value must be numbers"),
        ("class_name,class_color,mask_value\na,1 2 3,1\nb,1 2 4,1\n", "that no other class has"),
        (
            "class_name,class_color\n"
            + "".join(f"c{i},{i % 256} 0 {i // 256}\n" for i in range(260)),
            "260 classes; more than 254",
        ),
    ],
)
def test_bad_mapping_files_are_told_by_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "classes.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=rf"classes\.csv.*{message}"):
        read_class_mapping(path)


def test_mapping_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such class mapping"):
        read_class_mapping(tmp_path / "gone.csv")
    (tmp_path / "latin.csv").write_bytes("class_name,class_color\nJaçé,1 2 3\n".encode("latin-1"))
    with pytest.raises(InputError, match="cannot be read as UTF-8"):
        read_class_mapping(tmp_path / "latin.csv")


def test_a_mapping_as_spreadsheets_write_it(tmp_path: Path) -> None:
    path = tmp_path / "classes.csv"
    path.write_bytes(
        b"\xef\xbb\xbfclass_name,class_color,ignore\r\n"
        b'v\xc3\xbcid,"9,9,9",YES\r\nb,4 5 6,no\r\nc,7 8 9\r\n'
    )
    mapping = read_class_mapping(path)
    assert mapping.rows == (
        ("vüid", (9, 9, 9), True),
        ("b", (4, 5, 6), False),
        ("c", (7, 8, 9), False),
    )
    assert (mapping.names, mapping.colors, mapping.num_classes) == (
        ["b", "c"],
        [(4, 5, 6), (7, 8, 9)],
        2,
    )
    assert mapping.ignored_names == ["vüid"]
    assert mapping.row_to_index[:4].tolist() == [255, 0, 1, 255]
    assert mapping.palette[[0, 1, 255]].tolist() == [[4, 5, 6], [7, 8, 9], [0, 0, 0]]
    assert mapping.nearest_name((20, 20, 20)) == "vüid"


def test_a_mapping_survives_plain_values() -> None:
    mapping = read_class_mapping(SAMPLES / "class_mapping.csv")
    said = mapping.with_reading({0: 1, 7: 1, 255: None, 9: None, 1: 3})
    for one in (mapping, said):
        assert ClassMapping.from_plain(one.as_plain()) == one
        assert ClassMapping.from_plain(json.loads(json.dumps(one.as_plain()))) == one
        one.index_of_color  # noqa: B018 (a table of 16 MB)
        sent = pickle.dumps(one)
        assert pickle.loads(sent) == one and len(sent) < 2000
    # As files of earlier versions have it.
    assert mapping.as_plain()[1] == {
        "class_name": "Water", "class_color": [226, 169, 41], "ignore": False,
    }  # fmt: skip
    assert said.as_plain()[1]["mask_values"] == [0, 7]
    assert said.as_plain()[-1] == {"no_class": [9, 255]}
    for wrong in (
        None,
        3,
        [],
        ["a"],
        [{"class_name": "a"}],
        [{**mapping.as_plain()[0], "class_color": []}],
        [*mapping.as_plain(), {"no_class": [255]}],
    ):
        with pytest.raises(InputError, match=r"old\.pth: no class mapping"):
            ClassMapping.from_plain(wrong, "old.pth")


def test_numbers_of_the_classes_in_the_mapping_file(tmp_path: Path) -> None:
    path = tmp_path / "classes.csv"
    path.write_text(
        "class_name,class_color,ignore,mask_value\na,1 2 3,,0 2\nb,4 5 6,,255\nc,7 8 9,yes,-1\n",
        encoding="utf-8",
    )
    mapping = read_class_mapping(path)
    assert mapping.values == ((-1, 2), (0, 0), (2, 0), (255, 1))
    Image.fromarray(np.array([[0, 2, 255, 1]], np.uint8)).save(tmp_path / "m.png")
    reading = read_mask(tmp_path / "m.png", mapping)
    assert (reading.labels.tolist(), reading.unknown) == ([[0, 0, 1, 255]], {"1": 1})
    path.write_text("class_name,class_color,mask_value\na,1 2 3,\nb,4 5 6,\n", encoding="utf-8")
    assert read_class_mapping(path).values is None


def test_which_mapping_file_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, here = tmp_path / "data", tmp_path / "here"
    data.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    assert find_class_mapping(None, data) == packaged_class_mapping()
    (here / "class_mapping.csv").touch()
    assert find_class_mapping(None, data).resolve() == here / "class_mapping.csv"
    (data / "class_mapping.csv").touch()
    assert find_class_mapping(None, data) == data / "class_mapping.csv"
    assert find_class_mapping(Path("mine.csv"), data) == Path("mine.csv")


def test_the_packaged_mapping_is_the_salak_one() -> None:
    assert read_class_mapping(packaged_class_mapping()).names == [
        "__background__",
        "Badan Air",
        "Bangunan",
        "Jalan",
        "Pohon Berinang",
        "Snake Fruit",
        "Tanah Terbuka",
    ]


def test_the_sample_masks_hold_the_sample_classes() -> None:
    mapping = read_class_mapping(SAMPLES / "class_mapping.csv")
    kinds = set()
    for path in (SAMPLES / "masks").iterdir():
        reading = read_mask(path, mapping)
        kinds.add(reading.kind)
        assert set(reading.unknown) <= {"0 0 0"}
        assert set(np.unique(reading.labels)) <= {0, 1, 2, 3, 4, 255}
    assert kinds == {"RGB colours", "palette colours"}


TWO = ClassMapping((("land", (10, 0, 200), False), ("palm", (200, 0, 0), False)))
BINARY = TWO.with_reading({0: 0, 255: 1})


def test_a_reading_holds_for_every_mask_of_one_band(tmp_path: Path) -> None:
    rows = np.array([[0, 255, 255, 7]], np.uint8)
    for name, picture in (
        ("grey.png", Image.fromarray(rows)),
        ("wide.png", Image.fromarray(rows.astype(np.uint16))),
        ("palette.png", palette_image(rows, np.arange(768).reshape(256, 3) // 3)),
    ):
        picture.save(tmp_path / name)
        reading = read_mask(tmp_path / name, BINARY)
        assert reading.labels.tolist() == [[0, 1, 1, 255]], name
        assert sum(reading.unknown.values()) == 1
    Image.fromarray(rows > 0).save(tmp_path / "bits.png")
    assert read_mask(tmp_path / "bits.png", BINARY).labels.tolist() == [[0, 1, 1, 1]]
    smeared = np.repeat(np.array([[3, 240, 255, 128]], np.uint8), 16, 1).repeat(16, 0)
    Image.fromarray(smeared).save(tmp_path / "m.jpg", quality=95)
    reading = read_mask(tmp_path / "m.jpg", BINARY)
    assert reading.kind == "JPEG numbers (nearest)"
    assert reading.labels[8, 8::16].tolist() == [0, 1, 1, 255]
    assert reading.smeared >= 400 and sum(reading.unknown.values()) >= 200


def test_in_a_palette_of_class_colours_255_is_no_class(tmp_path: Path) -> None:
    """As Pascal VOC's palette has it, and those of the programs that write it."""
    palette = np.zeros((256, 3))
    palette[:4], palette[255] = TABLE[::-1], (224, 224, 192)
    reading = read(tmp_path, palette_image(np.array([[0, 3, 255]], np.uint8), palette))
    assert (reading.kind, reading.unknown) == ("palette colours", {})
    assert reading.labels.tolist() == [[2, 0, 255]]


def test_a_mask_taller_than_a_strip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salakseg.masks.STRIP", 3)
    tall = np.kron(ROWS, np.ones((5, 1), np.uint8))
    for pixels in (tall, TABLE[tall]):
        labels = read(tmp_path, pixels).labels
        assert labels.tolist() == np.kron(np.array(LABELS), np.ones((5, 1))).tolist()


@pytest.mark.parametrize("lossy", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (40, 30)])
def test_colours_are_counted_as_they_are_labelled(shape: tuple[int, int], lossy: bool) -> None:
    draws = np.random.default_rng(0)
    table = packed(np.concatenate([TABLE, TABLE[:2] + 9, [[1, 2, 3]]]))
    for longest in (1, 9):
        colors = table[draws.integers(0, len(table), 2000)].repeat(draws.integers(1, longest + 1))
        colors = colors[: shape[0] * shape[1]].reshape(shape)
        for valid in (None, draws.random(shape) < 0.7, np.zeros(shape, bool)):
            reading = labels_of_colors(colors, valid, MAPPING, lossy)
            counts, unknown, smeared = count_colors(colors, valid, MAPPING, lossy)
            assert (counts == np.bincount(reading.labels.ravel(), minlength=256)).all()
            assert (unknown, smeared) == (reading.unknown, reading.smeared)
            there = np.ones(shape, bool) if valid is None else valid
            for place in np.argwhere(there):
                color = unpacked(colors[tuple(place)])
                distance = np.linalg.norm(TABLE.astype(float) - color, axis=1)
                known = distance.min() <= (20 if lossy else 0)
                row = int(distance.argmin())
                label = MAPPING.row_to_index[row] if known else 255
                assert reading.labels[tuple(place)] == label
            assert (reading.labels[~there] == 255).all()

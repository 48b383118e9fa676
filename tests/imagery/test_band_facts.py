"""What rasters tell of their bands, and the scales that follow from it."""

from pathlib import Path

import numpy as np
import pytest

from salakseg.errors import InputError
from salakseg.imagery.band_facts import facts_of, made_of, scale_of
from salakseg.imagery.raster import open_image
from tests.multispectral import ground, write_bands

BANDS = (3, 2, 1, 5)


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ((0.02, 0.6), (0, 0.75)),  # reflectance
        ((500, 20_000), (0, 25_000)),
        ((120, 150), (112, 158)),  # metres above the sea
        ((-0.2, 0.9), (-0.5, 1.2)),  # an index
        ((0, 0), (0, 0.5)),
    ],
)
def test_scales_are_round_have_room_and_begin_at_0_where_that_is_near(
    values: tuple[float, float], scale: tuple[float, float]
) -> None:
    assert scale_of(*values) == pytest.approx(scale)


def test_a_scale_ends_where_the_type_does() -> None:
    assert scale_of(500, 65_000, 65_535) == (0, 65_535)


def test_a_set_is_made_of_names_numbers_and_what_the_values_of_all_images_keep_to(
    tmp_path: Path,
) -> None:
    values, _ = ground(0)
    values[:, 0, 0] = 60_000  # glint
    there = np.ones(values.shape[1:], bool)
    there[:90] = False
    facts = {}
    for name, factor in (("dark", 0.5), ("light", 1.5)):
        path = tmp_path / f"{name}.tif"
        write_bands(path, (values * factor).astype(np.uint16), there=there)
        facts[name] = facts_of(path, None, BANDS)
    made = made_of(facts, BANDS)
    assert made.names == ["red", "green", "blue", "nir"] and made.count == 5
    assert [band.number for band in made.bands] == list(BANDS)
    nir = made.bands[3]
    assert nir.low == 0 and 1.25 * 1.5 * 4500 < nir.high < 1.4 * 1.5 * 5000
    assert made_of({"dark": facts["dark"]}, BANDS, made) is made
    alone = made_of({"dark": facts["dark"]}, BANDS)
    assert alone.bands[3].high < nir.high / 2
    assert made_of({"light": facts["light"]}, BANDS, alone) != alone


def test_bytes_keep_their_values(tmp_path: Path) -> None:
    bands = np.random.default_rng(0).integers(60, 90, (5, 64, 64)).astype(np.uint8)
    path = write_bands(tmp_path / "field.tif", bands)
    made = made_of({"field": facts_of(path, None, BANDS)}, BANDS)
    with open_image(path, band_set=made) as source:
        pixels, _ = source.read(0, 0, 64, 64)
    np.testing.assert_array_equal(pixels, np.moveaxis(bands[[2, 1, 0, 4]], 0, 2))


def test_images_that_differ_make_no_set(tmp_path: Path) -> None:
    values, _ = ground(0, 64)
    one = facts_of(write_bands(tmp_path / "one.tif", values), None, BANDS)
    for others, options, what in (
        (values.astype(np.uint16), {}, "type of values: float32, uint16"),
        (values, {"names": None}, r"bands: red/green/blue/nir, \?/\?/\?/\?"),
        (np.concatenate([values, values[:1]]), {"names": (*"BGR", "re", "nir", "lwir")}, "number"),
    ):
        other = facts_of(write_bands(tmp_path / "other.tif", others, **options), None, BANDS)
        with pytest.raises(InputError, match=f"one.tif and other.tif differ in their {what}"):
            made_of({"one.tif": one, "other.tif": other}, BANDS)


def test_a_band_that_is_not_there_is_said(tmp_path: Path) -> None:
    path = write_bands(tmp_path / "field.tif", ground(0, 64)[0])
    with pytest.raises(InputError, match=r"field\.tif: has no band 7, only 5; see --bands"):
        facts_of(path, None, (1, 2, 3, 7))
    with pytest.raises(InputError, match=r"gone\.tif: "):
        facts_of(tmp_path / "gone.tif", None, BANDS)

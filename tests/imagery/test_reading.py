import numpy as np
import pytest

from salakseg.imagery.reading import is_nodata, marks_of


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([0.0, None, 0.0], "uint8"),  # a band without
        ([256.0], "uint8"),
        ([-1.0], "uint16"),
        ([0.5], "uint8"),
        ([float("nan")], "uint8"),
    ],
)
def test_values_that_no_pixel_can_hold_mark_nothing(values: list[float | None], dtype: str) -> None:
    assert marks_of(values, dtype) is None


def test_a_pixel_is_nodata_where_all_bands_say_so() -> None:
    marks = marks_of([0.0, 255.0], "uint8")
    assert marks is not None and marks.dtype == np.uint8
    values = np.array([[[0, 0, 1]], [[255, 254, 255]]], np.uint8)
    assert is_nodata(values, marks, lossy=False).tolist() == [[True, False, False]]

"""What is not there: filled with the mean colour."""

import numpy as np

from salakseg.imagery.nodata import filled


def test_nodata_pixels_take_the_mean_colour_of_the_others() -> None:
    image = np.array([[[10, 0, 7], [20, 0, 7]], [[32, 9, 7], [250, 250, 250]]], np.uint8)
    before = image.copy()
    valid = np.array([[True, True], [True, False]])
    tile = filled(image, valid)
    np.testing.assert_array_equal(tile[1, 1], (21, 3, 7))
    np.testing.assert_array_equal(tile[valid], image[valid])
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(filled(image, np.ones((2, 2), bool)), image)


def test_where_nothing_is_valid_the_image_stays() -> None:
    image = np.full((2, 2, 3), 9, np.uint8)
    np.testing.assert_array_equal(filled(image, np.zeros((2, 2), bool)), image)

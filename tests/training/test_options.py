from dataclasses import fields, replace

import pytest

from salakseg.errors import InputError
from salakseg.training.options import (
    S4GAN_PAPER,
    SUPERVISED,
    Options,
    Part,
    abouts,
    recipe_of,
    require_good,
    whole_number,
)


def test_every_option_is_declared_with_what_there_is_to_know_of_it() -> None:
    about = abouts()
    assert list(about) == [field.name for field in fields(Options)]
    assert all(one.help or one.choices for one in about.values())
    assert {name for name, one in about.items() if one.fixed} == {
        *("method", "seed", "generator", "encoder_weights"),
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch_size": 0}, "--batch-size 0: must be at least 1"),
        ({"learning_rate": 0.0}, "--learning-rate 0.0: must be above 0"),
        ({"learning_rate": float("nan")}, "--learning-rate nan"),
        ({"lambda_st": -0.1}, "--lambda-st -0.1: must be at least 0"),
        ({"without": ("cutmix", "magic")}, "--without magic: use one of cutmix, "),
        ({"without": (Part.CUTMIX,), "method": SUPERVISED}, "--without cutmix: is a part of"),
        ({"threshold_st": "1.1"}, "--threshold-st 1.1: must be auto or a number from 0 to 1"),
    ],
)
def test_what_an_option_cannot_be(given: dict[str, object], message: str) -> None:
    require_good(Options())
    with pytest.raises(InputError, match=message):
        require_good(replace(Options(), **given))  # type: ignore[arg-type]


def test_the_recipe_of_options() -> None:
    options = Options(method=S4GAN_PAPER, threshold_st="0.6", encoder_weights="none")
    recipe = recipe_of(options, semi=True)
    assert (recipe.method, recipe.threshold_st, recipe.pretrained) == (S4GAN_PAPER, 0.6, False)
    # Without unlabelled patches there is nothing but the labelled part.
    assert recipe_of(options, semi=False).method == SUPERVISED
    assert recipe_of(Options(), semi=True).threshold_st is None


def test_a_number_of_patches_may_come_as_text() -> None:
    assert whole_number("16") == whole_number(16) == 16
    with pytest.raises(InputError, match=r"--batch-size 1\.5"):
        whole_number("1.5")

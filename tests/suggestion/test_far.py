"""How far things are from what is labelled, on made-up features."""

import numpy as np

from salakseg.suggestion.far import far_from_labelled, far_sentences
from tests.suggestion.made_up import made_up, random_photos


def test_a_folder_unlike_everything_labelled_is_named() -> None:
    random = np.random.default_rng(0)

    def near(*centre: float) -> list[list[float]]:
        return (np.array(centre) + 0.3 * random.normal(size=(6, 3))).tolist()

    features = made_up(
        {
            "day/a": ("train", near(5, 0, 0)),
            "day/b": ("train", near(5, 1, 0)),
            "day/c": ("unlabeled", near(5, 0.5, 0)),
            "dusk/a": ("unlabeled", near(-5, 0, 4)),
            "dusk/b": ("unlabeled", near(-5, 1, 4)),
        }
    )
    far = far_from_labelled(features)
    assert far[far.level == "folder"].folder.tolist() == ["dusk", "day"]
    assert dict(zip(far.folder + far.base_image, far.far, strict=True)) == {
        "dusk": "yes",
        "day": "no",
        "duska": "yes",
        "duskb": "yes",
        "dayc": "no",
    }
    (line,) = far_sentences(far)
    assert line.startswith("Folder dusk looks like nothing you have labelled")


def test_with_one_labelled_photo_nothing_can_be_said() -> None:
    far = far_from_labelled(random_photos(0))
    assert far.empty and far_sentences(far) == []

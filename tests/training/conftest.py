import numpy as np
import pytest

from salakseg.model.generator import create_generator
from salakseg.model.weights import Model
from tests.training.saves import CLASSES


@pytest.fixture(scope="module")
def model() -> Model:
    confusion = np.array([[3, 1], [0, 4]])  # IoU 3/4 and 4/5
    return Model(create_generator("tiny", 2, "none"), CLASSES, val_confusion=confusion)

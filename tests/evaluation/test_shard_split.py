"""Predictions on one split of shards."""

from pathlib import Path

import numpy as np

from salakseg.data.shards import read_shards
from salakseg.evaluation.shard_split import ShardSplit, confusions_on_split
from tests.evaluation.samples import band_model


def test_confusions_on_split_counts_by_photograph_and_leaves_the_generator_as_it_was(
    workplace: Path,
):
    model = band_model()
    model.generator.train()
    seen: list[int] = []
    shards = read_shards(workplace / "shards")
    found = confusions_on_split(model, shards, "val", batch_size=1, on_batch=seen.append)
    assert found.dtype == np.int64 and found.sum(0).tolist()[0] == [512, 512, 0]
    assert seen == [1, 1] and model.generator.training
    assert (found == confusions_on_split(model, shards, "val", batch_size=2)).all()
    # The same as eval counts, in the same order.
    tally = ShardSplit(shards, "val").score(model, 2, 0, None)
    np.testing.assert_array_equal(found, tally.confusions)

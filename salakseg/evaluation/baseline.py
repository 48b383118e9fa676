"""Shards → what a map scores that shows one class everywhere: below it, nothing was learnt."""

from pathlib import Path

import numpy as np

from salakseg.data.shards import read_shards


def commonest_class(shards_dir: Path, split: str = "val") -> tuple[str, float]:
    """The commonest class of the training patches, and the mIoU of always answering it.

    Args:
        shards_dir: what `shard` wrote.
        split: the patches that are scored.
    """
    shards = read_shards(shards_dir)
    answer = int(shards.class_pixels(shards.split("train")).sum(0).argmax())
    truth = shards.class_pixels(shards.split(split)).sum(0)
    iou = np.where(np.arange(len(truth)) == answer, truth / truth.sum(), 0.0)
    return shards.mapping.names[answer], float(iou[truth > 0].mean())

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from salakseg.data.shards import Shards
from salakseg.training import probes as probes_module
from salakseg.training.probes import probe_rows


def test_too_few_labels_measure_nothing(shards: Shards) -> None:
    assert all(len(rows) == 0 for rows in probe_rows(shards, 0))  # 5 % of 36 patches


def test_of_few_photographs_single_patches_are_kept_from_training(
    shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes_module, "PROBE_SHARE", 0.25)
    left_out, probes = probe_rows(shards, 0)
    assert len(left_out) == len(np.unique(left_out)) == 9
    assert (left_out == probes).all()
    assert (left_out != probe_rows(shards, 1)[0]).any()


def photographs(shards: Shards, sizes: list[int], only: int | None = None) -> Shards:
    """Labelled patches of photographs of these sizes; water is on photograph `only` alone."""
    photo = np.repeat(np.arange(len(sizes)), sizes)
    samples = pd.concat([shards.split("train").iloc[:1]] * len(photo), ignore_index=True)
    samples["base_image"] = [f"{number:03d}" for number in photo]
    for name in shards.mapping.names:
        samples[f"pixels {name}"] = 100
    if only is not None:
        samples["pixels Water"] = np.where(photo == only, 100, 0)
    return replace(shards, samples=samples)


def test_of_many_photographs_whole_ones_are_kept_from_training(shards: Shards) -> None:
    many = photographs(shards, [20] * 60 + [500])
    photo = many.split("train").base_image.to_numpy()
    for seed in range(20):
        left_out, probes = probe_rows(many, seed)
        kept = set(photo[left_out])
        assert len(kept) == 4 and len(left_out) == 80  # below 5 % of 1,700, so not the large one
        assert len(probes) == 64 and set(probes) < set(left_out)
        assert set(photo[probes]) == kept
    assert (probe_rows(many, 0)[0] != probe_rows(many, 1)[0]).any()


def test_the_only_photograph_of_a_class_is_not_kept_from_training(shards: Shards) -> None:
    for only in range(40):
        few = photographs(shards, [20] * 40, only)
        left_out, _ = probe_rows(few, 0)
        assert len(left_out) == 40
        assert f"{only:03d}" not in set(few.split("train").base_image.iloc[left_out])

"""The test samples, cut, indexed and packed: what the benchmarks of training train on."""

from pathlib import Path

import salakseg

SAMPLES = Path(__file__).parents[1] / "tests" / "samples" / "dubai"
ROLES = ("train", "unlabeled", "train", "val", "train", "unlabeled", "train", "val")


def pack_samples(work: Path) -> Path:
    """Cut the sample photos into 128-pixel patches under `work`; the folder of their shards."""
    salakseg.patchify(SAMPLES, out=work / "data", size=128)
    names = sorted(path.stem for path in (SAMPLES / "images").iterdir())
    rows = [f"{name},{role}" for name, role in zip(names, ROLES, strict=True)]
    (work / "split.csv").write_text("\n".join(["base_image,split", *rows]), encoding="utf-8")
    salakseg.index(work / "data", out=work / "index", split_file=work / "split.csv")
    salakseg.shard(index_dir=work / "index", out=work / "shards")
    return work / "shards"

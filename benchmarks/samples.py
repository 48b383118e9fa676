"""The test samples, cut, indexed and packed, and networks of random weights, for the benchmarks."""

import io
import zlib
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

import salakseg

SAMPLES = Path(__file__).parents[1] / "tests" / "samples" / "dubai"
ROLES = ("train", "unlabeled", "train", "val", "train", "unlabeled", "train", "val")
# A network of realistic cost, small enough for a CPU.
REALISTIC = "fpn128-tu-tf_efficientnet_lite0"
END_CHUNK = 12  # bytes of a PNG's last chunk


def pack_samples(work: Path, size: int = 128, roles: Sequence[str] = ROLES) -> Path:
    """Cut the sample photos into patches under `work`; the folder of their shards."""
    salakseg.patchify(SAMPLES, out=work / "data", size=size)
    names = sorted(path.stem for path in (SAMPLES / "images").iterdir())
    rows = [f"{name},{role}" for name, role in zip(names, roles, strict=True)]
    (work / "split.csv").write_text("\n".join(["base_image,split", *rows]), encoding="utf-8")
    salakseg.index(work / "data", out=work / "index", split_file=work / "split.csv")
    salakseg.shard(index_dir=work / "index", out=work / "shards")
    return work / "shards"


def random_model(path: Path, generator: str, class_mapping: Path) -> Path:
    """A model file of a network that has learnt nothing."""
    import torch

    from salakseg.classes import read_class_mapping
    from salakseg.model.generator import create_generator
    from salakseg.model.weights import Model, save_model

    torch.manual_seed(0)
    mapping = read_class_mapping(class_mapping)
    save_model(path, Model(create_generator(generator, mapping.num_classes, "none"), mapping))
    return path


def png(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def with_note(content: bytes, note: str) -> bytes:
    """The PNG with a comment in it, so that files of the same pixels have bytes of their own."""
    chunk = f"tEXtComment\0{note}".encode()
    framed = (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    return content[:-END_CHUNK] + framed + content[-END_CHUNK:]

"""What the benchmarks work on, made of the test samples: shards, many patches, a mosaic, networks.

But for `random_model` it calls functions of `salakseg.__all__` only: `against.py` runs it on other
commits.
"""

import io
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from PIL import Image
from rasterio.windows import Window

import salakseg

SAMPLES = Path(__file__).parents[1] / "tests" / "samples" / "dubai"
ROLES = ("train", "unlabeled", "train", "val", "train", "unlabeled", "train", "val")
# A network of realistic cost, small enough for a CPU.
REALISTIC = "fpn128-tu-tf_efficientnet_lite0"
END_CHUNK = 12  # bytes of a PNG's last chunk
SIZE = 256  # of drawn patches
STEP = 64  # pixels between their crops
LABELLED = 25  # one in so many has a mask; in the Salak data one in 29
TILE = 512  # of a mosaic
CRS = {
    "utm": ("EPSG:32749", Affine(0.1, 0, 434_000, 0, -0.1, 9_160_000)),
    "degrees": ("EPSG:4326", Affine(1e-6, 0, 110.4, 0, -1e-6, -7.6)),
}


def pack_samples(work: Path, size: int = 128, roles: Sequence[str] = ROLES) -> Path:
    """Cut the sample photos into patches under `work`; the folder of their shards."""
    salakseg.patchify(SAMPLES, out=work / "data", size=size)
    names = sorted(path.stem for path in (SAMPLES / "images").iterdir())
    rows = [f"{name},{role}" for name, role in zip(names, roles, strict=True)]
    (work / "split.csv").write_text("\n".join(["base_image,split", *rows]), encoding="utf-8")
    salakseg.index(work / "data", out=work / "index", split_file=work / "split.csv")
    salakseg.shard(index_dir=work / "index", out=work / "shards")
    return work / "shards"


def draw_patches(data: Path, count: int, labelled: int = LABELLED) -> int:
    """Write `count` patches of 256 pixels, one in `labelled` with a mask; the number of bytes."""
    crops = []
    for path in sorted((SAMPLES / "images").iterdir()):
        with Image.open(path) as photo, Image.open(SAMPLES / f"masks/{path.stem}.png") as mask:
            colors = mask.convert("RGB")
            for top in range(0, photo.height - SIZE + 1, STEP):
                for left in range(0, photo.width - SIZE + 1, STEP):
                    box = (left, top, left + SIZE, top + SIZE)
                    crops.append((png(photo.crop(box)), png(colors.crop(box))))
    for name in ("images", "masks"):
        (data / name).mkdir(parents=True)
    shutil.copy(SAMPLES / "class_mapping.csv", data)
    written = 0
    bases = []
    for number in range(count):
        image, labels = crops[number % len(crops)]
        base, place = divmod(number, 330)
        name = f"DJI_{base:04d}_patch_{place // 22:03d}_{place % 22:03d}.png"
        written += (data / "images" / name).write_bytes(with_note(image, str(number)))
        if number % labelled == 0:
            written += (data / "masks" / name).write_bytes(labels)
        if place == 0:
            bases.append(f"DJI_{base:04d},train")
    # Nothing is held out, so that both sides pack the same patches.
    (data / "split.csv").write_text("\n".join(["base_image,split", *bases]), encoding="utf-8")
    return written


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


def make_mosaic(path: Path, photos: list[np.ndarray], side: int, crs: str) -> None:
    """A tiled GeoTIFF of side × side pixels, of pieces of the photographs in turn."""
    name, transform = CRS[crs]
    rng = np.random.default_rng(0)
    with rasterio.open(
        path, "w", driver="GTiff", width=side, height=side, count=3, dtype="uint8", crs=name,
        transform=transform, tiled=True, blockxsize=TILE, blockysize=TILE, compress="lzw",
        photometric="rgb", bigtiff="IF_SAFER",
    ) as raster:  # fmt: skip
        for row in range(0, side, TILE):
            for column in range(0, side, TILE):
                photo = photos[rng.integers(len(photos))]
                repeats = [-(-TILE // length) for length in photo.shape[:2]]
                piece = np.tile(photo, (*repeats, 1))[: side - row, : side - column][:TILE, :TILE]
                raster.write(
                    np.moveaxis(piece, 2, 0),
                    window=Window(column, row, piece.shape[1], piece.shape[0]),
                )


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

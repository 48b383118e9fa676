"""Who decodes the files of shards, and that all give the same."""

import io
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from salakseg.data import patch_decoder
from salakseg.data.patch_decoder import decoded_image, decoded_mask
from salakseg.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: Any) -> bytearray:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return bytearray(buffer.getvalue())


@pytest.fixture(params=["torchvision", "no torchvision", "no torchvision.io", "a build without"])
def decoders(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    import torchvision.io

    if request.param == "no torchvision":
        monkeypatch.setitem(sys.modules, "torchvision", None)
        monkeypatch.setitem(sys.modules, "torchvision.io", None)
    elif request.param == "no torchvision.io":
        monkeypatch.delattr(torchvision.io, "decode_image")
    elif request.param == "a build without":

        def fails(*_: object) -> None:
            raise RuntimeError("Couldn't load the image extension.")

        monkeypatch.setattr(torchvision.io, "decode_image", fails)
    patch_decoder._decoder.cache_clear()
    yield request.param
    patch_decoder._decoder.cache_clear()


def test_where_torchvisions_decoders_are_gone_pillow_decodes(decoders: str) -> None:
    is_there = decoders == "torchvision"
    expected = patch_decoder._by_torchvision if is_there else patch_decoder._by_pillow
    assert patch_decoder._decoder() is expected
    upright = np.moveaxis(PIXELS, 2, 0)
    assert (decoded_image(saved(Image.fromarray(PIXELS), "PNG"), "") == upright).all()
    grey = saved(Image.fromarray(PIXELS[..., 0]), "PNG")
    assert (decoded_mask(grey, "") == PIXELS[..., 0]).all()
    assert (decoded_image(grey, "") == upright[:1]).all()
    with pytest.raises(InputError, match="a patch: cannot be decoded"):
        decoded_image(saved(Image.fromarray(PIXELS), "PNG")[:200], "a patch")


@pytest.mark.parametrize("orientation", [1, 2, 3, 6, 8])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_patch_is_never_turned_against_its_mask(
    decoders: str, kind: str, orientation: int
) -> None:
    image = Image.fromarray(PIXELS)
    exif = image.getexif()
    exif[0x0112] = orientation
    tagged = decoded_image(saved(image, kind, exif=exif), "")
    assert tagged.shape == (3, 40, 60)
    assert (tagged == decoded_image(saved(image, kind), "")).all()


def test_jpeg_is_the_same_by_both() -> None:
    for options in ({"quality": 90}, {"quality": 75, "subsampling": 0}):
        for image in (Image.fromarray(PIXELS), Image.fromarray(PIXELS[..., 0])):
            content = saved(image, "JPEG", **options)
            one, other = (
                decoder(content, patch_decoder.RGB)
                for decoder in (patch_decoder._by_torchvision, patch_decoder._by_pillow)
            )
            # By one bit, where they are built with other libraries.
            assert abs(one.astype(int) - other).max() <= 1


def test_nobody_is_told_that_a_decoder_is_deprecated() -> None:
    code = (
        "import io; from PIL import Image; from salakseg.data.patch_decoder import decoded_image;"
        "file = io.BytesIO(); Image.new('RGB', (8, 8)).save(file, 'PNG');"
        "print(decoded_image(bytearray(file.getvalue()), '').shape)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "(3, 8, 8)\n"
    assert "torchcodec" not in done.stderr.lower()

#!/usr/bin/env bash
# An uncompressed grey, palette, 16-bit or RGBA TIFF with orientation 5 to 8 is scrambled when Pillow opens it by path.
# Guess: Image.open(path) and Image.open(BytesIO(the same bytes)) give the same pixels, turned (or not) as the tag says.
# Seen:  pillow==13.0.0, numpy==2.4.6; Python 3.11, Linux x86-64, 2026-11: by path the rows are cut at the wrong width
#        (memory-mapped with width and height exchanged) and the size stays unturned; from bytes, as RGB, or compressed all is well.
# Matters: masks and thermal images (grey, not compressed) are noise beside their images; no error.
#        Works: Image.open(io.BytesIO(data)), or no orientation tag.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q pillow==13.0.0 numpy==2.4.6
env/bin/python - <<'PY'
import io
import numpy as np
from PIL import Image

def read(file):
    with Image.open(file) as image:
        return np.asarray(image)
stored = np.repeat(np.arange(3, dtype=np.uint8)[:, None], 4, axis=1)                # three rows: class 0, 1 and 2
palette = Image.fromarray(stored)
palette.putpalette(list(range(256)) * 3)
images = {"grey": Image.fromarray(stored), "palette": palette, "16 bits": Image.fromarray(stored.astype(np.uint16)),
          "RGBA": Image.fromarray(np.dstack([stored] * 4)), "RGB": Image.fromarray(np.dstack([stored] * 3))}
good = {}
for name, image in images.items():
    for compression in (None, "tiff_deflate"):
        image.save("m.tif", tiffinfo={0x112: 6}, compression=compression)
        by_path, by_bytes = read("m.tif"), read(io.BytesIO(open("m.tif", "rb").read()))
        assert np.array_equal(by_bytes, np.rot90(np.asarray(image), -1))
        good[name, compression] = np.array_equal(by_path, by_bytes)
        print(f"{name}, compression {compression}: by path {by_path.shape[:2]}, from bytes {by_bytes.shape[:2]},",
              "same" if good[name, compression] else "not the same")
        if (name, compression) == ("grey", None):
            print("stored:", stored.tolist(), "by path:", by_path.tolist(), "from bytes:", by_bytes.tolist(), sep="\n  ")
            assert not any(np.array_equal(by_path, np.rot90(stored, k)) for k in range(4))
assert all(same == (compression is not None or name == "RGB") for (name, compression), same in good.items())
PY

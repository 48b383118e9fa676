"""Images behind URLs and in zips."""

import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import ExifTags, Image

from salakseg import bucket
from salakseg.errors import InputError, WorkError
from salakseg.imagery import ranges
from salakseg.imagery.raster import open_image
from salakseg.imagery.remote import RemoteImage, local, remote_images
from tests.rasters import write_tiff
from tests.servers import Server, http_server, lose_patience

pytest.importorskip("aiohttp")


@pytest.fixture
def image() -> Any:
    """Noise, which no compression makes small."""
    return np.random.default_rng(0).integers(0, 256, (3, 300, 500), np.uint8)


@pytest.fixture
def folder(tmp_path: Path, image: Any) -> Path:
    """It in a folder, in many ways."""
    folder = tmp_path / "images"
    folder.mkdir()
    tiles = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
    write_tiff(folder / "tiled.tif", image, **tiles)
    write_tiff(folder / "strips.tif", image, blockysize=4, compress="lzw")
    upright = Image.fromarray(np.moveaxis(image, 0, 2))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    upright.save(folder / "turned.tif", exif=exif)
    upright.save(folder / "turned 1.jpg", exif=exif)
    upright.save(folder / "photo.png")
    (folder / "words.tif").write_text("no image\n" * 100)
    (folder / "mosaic.vrt").write_text("<VRTDataset/>")
    return folder


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The folder, served; who reads has little patience."""
    lose_patience(monkeypatch, 0.3)
    with http_server(folder) as server:
        yield server


def one(text: str) -> RemoteImage:
    """The image of that name."""
    (image,) = remote_images(text) or []
    return image


def pixels_of(path: Path | RemoteImage) -> Any:
    """All of it, in windows that no block fits in."""
    parts = []
    with open_image(path) as source:
        for row in range(0, source.height, 50):
            height = min(50, source.height - row)
            parts.append(source.read(row, 0, height, source.width)[0])
    return np.concatenate(parts)


def sent(server: Server, folder: Path) -> int:
    """How many bytes."""
    return sum(
        span[1] - span[0] if span else (folder / name).stat().st_size
        for how, name, span in server.asked
        if how == "GET" and (folder / name).is_file()
    )


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("tiled.tif", 1.0),
        ("strips.tif", 1.0),
        ("turned.tif", 1.0),
        ("turned%201.jpg", 0.0),
        ("photo.png", 0.0),
    ],
)
def test_by_url_it_is_the_same_image_and_comes_once(
    server: Server, folder: Path, name: str, most: float
) -> None:
    path = folder / name.replace("%20", " ")
    image = one(f"{server.url}/{name}?sig=secret")
    assert (image.name, image.stem, image.suffix) == (path.name, path.stem, path.suffix)
    assert (pixels_of(image) == pixels_of(path)).all()
    # Its first page, of 16 kB, may come for GDAL, for the orientation, and with blocks in it.
    assert sent(server, folder) <= path.stat().st_size + most * 3 * (16 << 10)


def test_a_window_is_what_is_asked_for(server: Server, folder: Path) -> None:
    with open_image(one(f"{server.url}/tiled.tif")) as source:
        before = sent(server, folder)
        source.read(128, 128, 64, 64)
        a_tile = (folder / "tiled.tif").stat().st_size // 40
        assert sent(server, folder) - before <= 2 * a_tile


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}/none.tif", "^{}/none.tif: is not there$"),
        ("{}/words.tif?sig=secret", "^{}/words.tif: is no TIFF that can be"),
        ("{}/mosaic.vrt", "^{}/mosaic.vrt: is no TIFF"),
        ("{}/none/", "^{}/none/: is not there, or cannot be listed"),
        ("/vsicurl/{}/none.tif", "^{}/none.tif: is not there$"),
        ("/vsigzip/a.tif", "^/vsigzip/a.tif: of GDAL's own names /vsis3/"),
        ("zip://photos", "^zip://photos: of GDAL's own names"),
        ("/vsizip/vsicurl/{}/a.zip/a.tif", "a zip behind a URL is not read; fetch it first"),
        ("zip://{}/a.zip!a.tif", "a zip behind a URL is not read; fetch it first"),
        ("{}", "names no image"),
        ("nosuch://x/a.tif", "^nosuch://x: cannot be opened"),
    ],
)
def test_what_is_no_image_is_a_line(server: Server, text: str, message: str) -> None:
    with (
        pytest.raises(InputError, match=message.format(server.url)) as met,
        open_image(one(text.format(server.url))),
    ):
        pass
    assert "secret" not in str(met.value)


def test_a_server_without_ranges(server: Server, folder: Path) -> None:
    server.ranges = False
    with (
        pytest.raises(InputError, match=r"/tiled.tif: the server sends whole files only"),
        open_image(one(f"{server.url}/tiled.tif")),
    ):
        pass
    # A photograph comes whole anyway.
    assert (pixels_of(one(f"{server.url}/photo.png")) == pixels_of(folder / "photo.png")).all()


@pytest.mark.parametrize("fault", [503, "cut", "silent"])
def test_what_fails_is_asked_again(
    server: Server, folder: Path, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "PATIENCE", 5.0)
    monkeypatch.setattr(bucket, "SILENCE", 0.2)
    server.fault = lambda name, span, number: fault if number % 3 else None
    assert (pixels_of(one(f"{server.url}/tiled.tif")) == pixels_of(folder / "tiled.tif")).all()


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (503, WorkError, "tiled.tif: no answer in .*503"),
        ("cut", WorkError, "tiled.tif: no answer in"),
        (403, InputError, "tiled.tif: may not be read"),
        (404, InputError, "tiled.tif: is not there any more"),
        (b"short", InputError, "tiled.tif: has another length than before; was it replaced"),
    ],
)
@pytest.mark.parametrize("skip_unreadable", [False, True])
def test_what_goes_wrong_in_the_middle_is_never_taken_for_pixels(
    server: Server,
    folder: Path,
    image: Any,
    fault: Any,
    error: type[Exception],
    message: str,
    skip_unreadable: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """GDAL may take blocks for empty ones after it could not read where they are."""
    monkeypatch.setattr(ranges, "PAGE", 1024)
    tiles = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
    write_tiff(folder / "tiled.tif", image, **tiles)
    for failing in (2, 4, 6, 8):  # in its header, in the list of blocks, in the blocks
        server.asked.clear()
        server.fault = lambda name, span, number, at=failing: fault if number >= at else None
        with (
            pytest.raises(error, match=message),
            open_image(
                one(f"{server.url}/tiled.tif?{failing}"), skip_unreadable=skip_unreadable
            ) as source,
        ):
            for row in (0, 100, 0, 200, 100):
                source.read(row, 0, 100, source.width)
        server.fault = lambda *_: None


@pytest.mark.parametrize("number", range(0, 7, 2))
def test_ctrl_c_in_the_middle_of_it_is_not_lost(
    server: Server, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    image, read, asked = one(f"{server.url}/tiled.tif"), bucket.Bucket.read, []

    def interrupted(*arguments: Any) -> bytes:
        asked.append(arguments)
        if len(asked) == number + 1:
            raise KeyboardInterrupt
        return read(*arguments)

    monkeypatch.setattr(bucket.Bucket, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pixels_of(image)


def test_it_is_known_by_what_the_server_says(server: Server, folder: Path) -> None:
    path = folder / "tiled.tif"
    before = one(f"{server.url}/tiled.tif").version
    assert one(f"{server.url}/tiled.tif?another=signature").version == before
    path.write_bytes(path.read_bytes())
    assert one(f"{server.url}/tiled.tif").version != before


def test_a_folder_is_its_images(folder: Path) -> None:
    names = remote_images(f"file://{folder.as_posix()}/", (".tif", ".png", ".jpg"))
    assert [image.name for image in names or []] == [
        "photo.png",
        "strips.tif",
        "tiled.tif",
        "turned 1.jpg",
        "turned.tif",
        "words.tif",
    ]


@pytest.mark.parametrize("text", ["photos/*.tif", "a.tif", r"C:\photos\a.tif", "photos.zip"])
def test_a_path_is_none(text: str) -> None:
    assert remote_images(text) is None


@pytest.mark.parametrize(
    ("text", "gdal"),
    [
        ("https://host/a.tif", "/vsicurl/https://host/a.tif"),
        ("https://host/a.tif?sig=x", None),
        ("https://me:word@host/a.tif", None),
        ("file:///data/a.tif", None),
    ],
)
def test_what_qgis_calls_it(text: str, gdal: str | None) -> None:
    assert one(text).gdal_name == gdal


@pytest.mark.parametrize(
    "text",
    ["https://me:word@host/a%20b.tif?sig=x", "/vsicurl/http://host/a.tif", "zip://a.zip!b.tif"],
)
def test_processes_may_send_it_to_each_other(text: str) -> None:
    image = one(text)
    sent = pickle.loads(pickle.dumps(image))
    assert sent == image and str(sent) == str(image) and sent.gdal_name == image.gdal_name


@pytest.mark.parametrize("name", ["tiled.tif", "turned.tif", "turned 1.jpg", "photo.png"])
@pytest.mark.parametrize("form", ["zip://{}!in/{}", "zip://{}!/in/{}", "/vsizip/{}/in/{}"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_image_in_a_zip(folder: Path, name: str, form: str, method: int) -> None:
    with zipfile.ZipFile("photos.zip", "w", method) as archive:
        archive.write(folder / name, f"in/{name}")
    image = one(form.format("photos.zip", name))
    assert str(image) == f"zip://photos.zip!in/{name}" and image.name == name
    assert (pixels_of(image) == pixels_of(folder / name)).all()


def test_a_cut_off_image_is_said_to_be_that(server: Server, folder: Path) -> None:
    (folder / "cut.tif").write_bytes((folder / "tiled.tif").read_bytes()[:20_000])
    with pytest.raises(InputError, match=f"^{server.url}/cut.tif: is cut off"):
        pixels_of(one(f"{server.url}/cut.tif"))


def test_percents_are_of_web_servers() -> None:
    assert one("https://host/a%20b.tif").name == "a b.tif"
    assert one("file:///data/a%20b.tif").name == "a%20b.tif"


def test_a_damaged_tiff_in_a_zip(folder: Path) -> None:
    with zipfile.ZipFile("photos.zip", "w") as archive:
        archive.write(folder / "tiled.tif", "tiled.tif")
    content = bytearray(Path("photos.zip").read_bytes())
    content[5000:9000] = bytes(4000)
    Path("photos.zip").write_bytes(content)
    with pytest.raises(InputError, match=r"^zip://photos.zip!tiled.tif: rows 0 to"):
        pixels_of(one("zip://photos.zip!tiled.tif"))


def test_a_zip_that_cannot_be_read(folder: Path) -> None:
    with pytest.raises(InputError, match=r"zip://none.zip!a.tif: the zip cannot be read \(.*No su"):
        _ = one("zip://none.zip!a.tif").size
    Path("words.zip").write_text("no zip")
    with pytest.raises(InputError, match=r"zip://words.zip!a.tif: the zip cannot be read \(File"):
        _ = one("/vsizip/words.zip/a.tif").size
    with zipfile.ZipFile("photos.zip", "w") as archive:
        archive.write(folder / "photo.png", "photo.png")
    with pytest.raises(InputError, match=r"zip://photos.zip!a.tif: is not in the zip"):
        _ = one("/vsizip/photos.zip/a.tif").size
    content = bytearray(Path("photos.zip").read_bytes())
    content[5000] ^= 255
    Path("photos.zip").write_bytes(content)
    with (
        pytest.raises(InputError, match=r"^zip://photos.zip!photo.png: cannot be unpacked \(Bad C"),
        local(one("zip://photos.zip!photo.png")),
    ):
        pass


def test_a_damaged_photograph_has_its_own_name(server: Server, folder: Path) -> None:
    photo = folder / "turned 1.jpg"
    photo.write_bytes(photo.read_bytes()[:-5000])
    with (
        pytest.raises(InputError, match=f"^{server.url}/turned%201.jpg: the image cannot be read"),
        open_image(one(f"{server.url}/turned%201.jpg")),
    ):
        pass


def test_nothing_beside_it_is_asked_for(server: Server, folder: Path) -> None:
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False),
        rasterio.open(folder / "tiled.tif", "r+") as raster,
    ):
        raster.write_mask(np.zeros((300, 500), np.uint8))
    assert (folder / "tiled.tif.msk").exists()
    pixels_of(one(f"{server.url}/tiled.tif"))
    assert {name for _, name, _ in server.asked} == {"tiled.tif"}

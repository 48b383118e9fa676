"""Maps of images that are behind URLs, or in a zip."""

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

from salakseg import assess_plan
from salakseg.cli import main
from salakseg.errors import InputError, WorkError
from salakseg.mapping import resample, scratch
from salakseg.mapping.inputs import find_inputs
from salakseg.mapping.predict import predict
from tests.imagery.test_photo import DJI, drone_photo
from tests.mapping.samples import coloured
from tests.rasters import write_tiff
from tests.servers import Server, http_server, lose_patience, s3_server

pytest.importorskip("aiohttp")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three orthomosaics and a photograph."""
    folder = tmp_path / "photos"
    folder.mkdir()
    tiles = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
    for seed, name in enumerate("abc"):
        write_tiff(folder / f"{name}.tif", np.moveaxis(coloured(400, 330, seed)[0], 2, 0), **tiles)
    Image.fromarray(coloured(90, 110)[0]).save(folder / "d.jpg", quality=95)
    return folder


@pytest.fixture
def server(photos: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Them, served; who reads has little patience."""
    lose_patience(monkeypatch, 0.1)
    with http_server(photos) as server:
        yield server


def map_of(out: str, name: str) -> list[Any]:
    """Classes and confidence."""
    found = []
    for kind in ("classes", "confidence"):
        (path,) = Path(out).glob(f"{name}_{kind}.[tp][in][fg]")
        with rasterio.open(path) as raster:
            found += [raster.read(), raster.transform]
    return found


def same(one: list[Any], other: list[Any]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_it_is_the_map_of_the_file(server: Server, photos: Path, brightest_file: Path) -> None:
    names = ["a.tif", "b.tif", "d.jpg"]
    by_url = predict(
        [f"{server.url}/{name}?sig=secret" for name in names], model=brightest_file, out="far"
    )
    predict([photos / name for name in names], model=brightest_file, out="near")
    assert [str(one.image) for one in by_url] == [f"{server.url}/{name}" for name in names]
    for name in names:
        assert same(map_of("far", name[0]), map_of("near", name[0]))
        spans = [span for how, file, span in server.asked if how == "GET" and file == name]
        size = (photos / name).stat().st_size
        sent = sum(size if span is None else span[1] - span[0] for span in spans)
        # Once; but for pages of 16 kB with small tiles of the border in them.
        assert sent <= 1.3 * size
    written = b"".join(path.read_bytes() for path in Path("far").rglob("*") if path.is_file())
    assert b"secret" not in written and f"{server.url}/a.tif".encode() in written


def test_a_network_that_breaks(
    server: Server,
    brightest_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(resample, "SUMS_BYTES", 1 << 18)
    monkeypatch.setattr(scratch, "SAVE_SECONDS", 0)
    urls = [f"{server.url}/{name}.tif" for name in "abc"]
    predict(urls, model=brightest_file, out="whole")
    server.fault = lambda name, span, number: (
        # Runs of tiles of the lower half, not the single ones that are looked at before.
        503
        if name == "b.tif" and span and span[0] > 150_000 and span[1] - span[0] > 20_000
        else None
    )
    with pytest.raises(WorkError, match=f"^{server.url}/b.tif: no answer in .*503.*run it again"):
        predict(urls, model=brightest_file, out="broken")
    done = {path.name[0] for path in Path("broken").glob("*_classes.tif")}
    assert done and "b" not in done
    server.fault = lambda *_: None
    server.asked.clear()
    capsys.readouterr()
    assert len(predict(urls, model=brightest_file, out="broken")) == 3
    out = " ".join(capsys.readouterr().out.split())
    assert f"left as they are: {len(done)} of 3 images" in out
    assert f"{server.url}/b.tif: goes on at" in out
    assert {how for how, name, _ in server.asked if name[0] in done} == {"HEAD"}
    for name in "abc":
        assert same(map_of("broken", name), map_of("whole", name))


def test_an_image_that_was_replaced_is_another(
    server: Server, photos: Path, brightest_file: Path
) -> None:
    urls = [f"{server.url}/{name}.tif" for name in "ab"]
    predict(urls[:1], model=brightest_file, out="maps")
    (photos / "a.tif").write_bytes((photos / "c.tif").read_bytes())
    with pytest.raises(InputError, match=r"a_classes.tif: exists already"):
        predict(urls, model=brightest_file, out="maps")


def test_an_image_that_is_replaced_while_it_is_read_is_no_map(
    server: Server, photos: Path, brightest_file: Path
) -> None:
    for seed, name in enumerate(("a.tif", "e.tif")):
        write_tiff(photos / name, np.moveaxis(coloured(400, 330, seed)[0], 2, 0))
    other = (photos / "e.tif").read_bytes()

    def replaced(*_: Any) -> None:
        (photos / "a.tif").write_bytes(other)

    server.fault = lambda name, span, number: replaced() if span else None
    with pytest.raises(InputError, match=r"a\.tif: was replaced while it was read"):
        predict([f"{server.url}/a.tif"], model=brightest_file, out="maps")
    assert not list(Path("maps").glob("*.tif"))
    server.fault = lambda *_: None
    predict([f"{server.url.replace('http', 'HTTP')}/a.tif"], model=brightest_file, out="maps")
    predict([photos / "a.tif"], model=brightest_file, out="near")
    assert same(map_of("maps", "a"), map_of("near", "a"))


def test_one_that_is_no_image_does_not_stop_the_others(
    server: Server, photos: Path, brightest_file: Path
) -> None:
    (photos / "b.tif").write_text("no image")
    urls = [f"{server.url}/{name}.tif" for name in "abc"]
    with pytest.raises(InputError, match=rf"^1 of 3 images could not be .*: {server.url}/b.tif$"):
        predict(urls, model=brightest_file, out="maps")
    assert len(list(Path("maps").glob("*_classes.tif"))) == 2
    with pytest.raises(InputError, match=f"^{server.url}/e.tif: is not there$"):
        predict([*urls, f"{server.url}/e.tif"], model=brightest_file, out="others")
    assert not Path("others").exists()


def test_names_are_names_of_files(server: Server, photos: Path) -> None:
    (photos / "a.tif").rename(photos / "a:b?.tif")
    (found,) = find_inputs([f"{server.url}/a%3Ab%3F.tif?sig=x"])
    assert found.name == "a_b_" and str(found.path) == f"{server.url}/a%3Ab%3F.tif"


def test_the_command_line_leaves_a_url_as_it_is(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["predict", f"{server.url}/none.tif?sig=secret"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"Error: {server.url}/none.tif: is not there\n"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of other systems")
def test_who_waits_for_a_network_can_be_stopped(server: Server) -> None:
    server.fault = lambda *_: 503
    command = [sys.executable, "-m", "salakseg", "predict", f"{server.url}/a.tif"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8")
    assert process.stdout is not None and "a.tif: 503" in next(process.stdout)
    process.terminate()
    assert process.wait(timeout=60) == 130


def test_a_drone_photograph_tells_its_height(
    server: Server, photos: Path, brightest_file: Path
) -> None:
    drone_photo(photos / "dji.jpg", 152, 86, {}, **DJI)
    (near,) = predict([photos / "dji.jpg"], model=brightest_file, out="near")
    (far,) = predict([f"{server.url}/dji.jpg"], model=brightest_file, out="far")
    assert far.square_metres is not None and near.square_metres is not None
    assert (far.square_metres == near.square_metres).all() and far.area_basis == near.area_basis
    plan = assess_plan([far.classes], points=9, least=3, out="a")
    assert plan.content["unit"] == "m2"


def test_a_sample_of_the_map_is_cut_from_the_url(server: Server, brightest_file: Path) -> None:
    (made,) = predict([f"{server.url}/a.tif"], model=brightest_file)
    assess_plan([made.classes], points=9, least=3, out="by itself")
    assess_plan([made.classes], points=9, least=3, out="named", image=[f"{server.url}/a.tif?x=1"])
    chips = [sorted(Path(out, "chips").iterdir()) for out in ("by itself", "named")]
    assert len(chips[0]) == 9
    assert [path.read_bytes() for path in chips[0]] == [path.read_bytes() for path in chips[1]]


def test_a_bucket_and_a_zip(
    photos: Path, brightest_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict([photos], model=brightest_file, out="near")
    with zipfile.ZipFile("photos.zip", "w") as archive:
        for path in photos.iterdir():
            archive.write(path, path.name)
    predict(
        ["zip://photos.zip!a.tif", "/vsizip/photos.zip/d.jpg"], model=brightest_file, out="zipped"
    )
    for name in "ad":
        assert same(map_of("zipped", name), map_of("near", name))
    with s3_server(monkeypatch) as client:
        for path in photos.iterdir():
            client.upload_file(str(path), "farm", f"2026/{path.name}")
        client.put_object(Bucket="farm", Key="2026/notes.txt", Body=b"")
        client.put_object(Bucket="farm", Key="2026/deeper/e.tif", Body=b"")
        made = predict(["s3://farm/2026/"], model=brightest_file, out="far")
        assert [str(one.image) for one in made] == [
            f"s3://farm/2026/{name}" for name in ("a.tif", "b.tif", "c.tif", "d.jpg")
        ]
        for name in "abcd":
            assert same(map_of("far", name), map_of("near", name))
        assert "/vsis3/farm/2026/a.tif" in Path("far/a.qlr").read_text(encoding="utf-8")
        with pytest.raises(InputError, match="exists already, and so do all others"):
            predict(
                ["/vsis3/farm/2026/a.tif", "s3://farm/2026/b.tif"], model=brightest_file, out="far"
            )
        for text, message in [
            ("s3://farm/2026/none.tif", "^s3://farm/2026/none.tif: is not there$"),
            ("s3://farm/2026", "^s3://farm/2026: is a folder; with / at the end its images"),
            ("s3://farm/none/", "^s3://farm/none/: is not there, or cannot be listed$"),
            ("s3://farm/2026/deeper/", "^s3://farm/2026/deeper/e.tif: is no TIFF"),
        ]:
            with pytest.raises(InputError, match=message):
                predict([text], model=brightest_file, out="none")

"""The second `index`: what it opens again, and that nobody can tell by the result."""

import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from salakseg.data import check_cache, image_checks, mask_checks
from salakseg.data.index import index
from salakseg.data.index_files import read_index

OLD = 1_700_000_000  # seconds: long before any run
TABLES = ("patches.csv", "base_images.csv", "problems.csv", "summary.json", "preview.png")


@pytest.fixture
def data(patch_folders: Path, tmp_path: Path) -> Path:
    """72 patches with masks, last changed long ago; one image is grey, one mask has a stray pixel,
    one is cut off."""
    folder = tmp_path / "DATA"
    shutil.copytree(patch_folders, folder)
    images, masks = (sorted((folder / name).iterdir()) for name in ("images", "masks"))
    Image.open(images[3]).convert("L").save(images[3])
    set_pixels(masks[0], (1, 2, 3), 1)
    masks[1].write_bytes(masks[1].read_bytes()[:200])
    for path in (*images, *masks):
        os.utime(path, (OLD, OLD))
    return folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[int, int, int]]:
    """How many images and masks were opened, and files hashed, since it was last asked."""
    counts = [0, 0, 0]

    def count(place: int, checks: ModuleType, name: str, size: Callable[[tuple], int]) -> None:
        real = getattr(checks, name)

        def counted(*words):  # type: ignore[no-untyped-def]
            counts[place] += size(words)
            return real(*words)

        monkeypatch.setattr(checks, name, counted)

    count(0, image_checks, "_check_image", lambda words: 1)
    count(1, mask_checks, "_check_mask", lambda words: 1)
    count(2, image_checks, "_hash_files", lambda words: len(words[1]))

    def since() -> tuple[int, int, int]:
        images, masks, hashes = counts
        counts[:] = [0, 0, 0]
        return images, masks, hashes

    return since


def set_pixels(mask: Path, color: tuple[int, int, int], count: int) -> None:
    with Image.open(mask) as image:
        drawn = image.convert("RGB")
    for place in range(count):
        drawn.putpixel((place, 0), color)
    drawn.save(mask)


def contents(folder: str) -> list[bytes]:
    return [Path(folder, name).read_bytes() for name in TABLES]


def assert_as_a_fresh_index(data: Path, seed: int = 0) -> None:
    index(data, num_workers=1, seed=seed, out="fresh")
    assert contents("index") == contents("fresh")


def test_a_second_index_opens_nothing_and_gives_the_same_bytes(
    data: Path, opened: Callable[[], tuple[int, int, int]]
) -> None:
    index(data, num_workers=1)
    assert opened() == (72, 72, 0)
    first, cache = contents("index"), Path("index/checked.json.gz").read_bytes()
    index(data, num_workers=1)
    assert opened() == (0, 1, 0)  # the damaged mask is tried again
    assert contents("index") == first
    assert Path("index/checked.json.gz").read_bytes() == cache
    index(data, num_workers=1, cache=False)
    assert opened() == (72, 72, 0)
    assert contents("index") == first
    # Another split of the same patches, with what is known and without.
    index(data, num_workers=1, seed=4)
    assert opened() == (0, 1, 0)
    assert_as_a_fresh_index(data, seed=4)


def test_hashes_of_copies_are_kept(data: Path, opened: Callable[[], tuple[int, int, int]]) -> None:
    index(data, num_workers=1)
    held = read_index(Path("index")).patches.query("split == 'val'")["image"].iloc[0]
    shutil.copy2(data / held, data / "images/copy.png")
    index(data, num_workers=1)
    assert opened()[2] == 2
    index(data, num_workers=1)
    assert opened() == (0, 1, 0)
    assert "same bytes as a held-out patch" in Path("index/problems.csv").read_text("utf-8")


def test_a_mask_of_the_same_size_and_another_time_is_read_again_and_counted(
    data: Path,
    opened: Callable[[], tuple[int, int, int]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    mask = sorted((data / "masks").iterdir())[20]
    set_pixels(mask, (60, 16, 152), 5)  # Building
    content = mask.read_bytes()
    set_pixels(mask, (132, 41, 246), 5)  # Land
    other = mask.read_bytes().ljust(len(content), b"\0")
    content = content.ljust(len(other), b"\0")
    mask.write_bytes(content)
    os.utime(mask, (OLD, OLD))
    index(data, num_workers=1)
    assert "changed since" not in capsys.readouterr().out
    mask.write_bytes(other)
    os.utime(mask, (OLD + 1, OLD + 1))
    opened()
    index(data, num_workers=1)
    assert opened() == (0, 2, 0)
    assert "1 mask changed since the last index: at least 5 pixels" in capsys.readouterr().out
    assert_as_a_fresh_index(data)


def test_a_guess_is_compared_again_where_it_or_its_mask_changed(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = sorted((data / "masks").iterdir())[10:13]
    (data / "guess").mkdir()
    guesses = [Path(shutil.copy2(mask, data / "guess")) for mask in masks]
    real, compared = mask_checks._compare_guess, []

    def compare(guess: Path, *rest: object) -> mask_checks.GuessCheck:
        compared.append(guess.name)
        return real(guess, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(mask_checks, "_compare_guess", compare)

    def compared_now() -> list[str]:
        compared.clear()
        index(data, num_workers=1)
        return compared.copy()

    assert len(compared_now()) == 3
    assert compared_now() == []
    for seconds, path in ((1, guesses[1]), (2, masks[2])):
        set_pixels(path, (60, 16, 152), 5)  # Building
        os.utime(path, (OLD + seconds, OLD + seconds))
        assert compared_now() == [path.name]
        assert_as_a_fresh_index(data)
    # The mask has changed a moment ago: it may change again and keep its time.
    os.utime(masks[0])
    assert compared_now() == compared_now() == [masks[0].name]
    mapping = data / "class_mapping.csv"
    rows = mapping.read_text("utf-8").splitlines()
    mapping.write_text("\n".join([rows[0], *rows[:0:-1]]) + "\n", "utf-8")
    assert len(compared_now()) == 3
    assert_as_a_fresh_index(data)


def test_a_changed_mapping_reads_all_masks_again(
    data: Path, opened: Callable[[], tuple[int, int, int]]
) -> None:
    index(data, num_workers=1)
    mapping = data / "class_mapping.csv"
    rows = mapping.read_text("utf-8").splitlines()
    mapping.write_text("\n".join([rows[0], *rows[:0:-1]]) + "\n", "utf-8")
    opened()
    index(data, num_workers=1)
    assert opened() == (0, 72, 0)
    assert_as_a_fresh_index(data)


def test_an_image_of_another_size_has_its_mask_read_again(
    data: Path, opened: Callable[[], tuple[int, int, int]]
) -> None:
    index(data, num_workers=1)
    image = sorted((data / "images").iterdir())[9]
    with Image.open(image) as picture:
        picture.crop((0, 0, 100, 128)).save(image)
    opened()
    index(data, num_workers=1)
    assert opened() == (1, 2, 0)
    assert "100×128" in Path("index/problems.csv").read_text("utf-8")


def test_files_that_changed_a_moment_ago_are_opened_again(
    data: Path, opened: Callable[[], tuple[int, int, int]]
) -> None:
    image = sorted((data / "images").iterdir())[9]
    os.utime(image)
    index(data, num_workers=1)
    opened()
    index(data, num_workers=1)
    assert opened() == (1, 1, 0)


@pytest.mark.parametrize("spoil", ["flipped bit", "cut off", "no gzip", "list", "other version"])
def test_a_damaged_or_foreign_cache_is_as_good_as_none(
    data: Path,
    opened: Callable[[], tuple[int, int, int]],
    monkeypatch: pytest.MonkeyPatch,
    spoil: str,
) -> None:
    index(data, num_workers=1)
    first, cache = contents("index"), Path("index/checked.json.gz")
    content = bytearray(cache.read_bytes())
    content[len(content) // 2] ^= 1
    spoilt = {
        "flipped bit": bytes(content),
        "cut off": cache.read_bytes()[:-20],
        "no gzip": b"{}",
        "list": gzip.compress(b"[]"),
    }
    if spoil in spoilt:
        cache.write_bytes(spoilt[spoil])
    else:
        monkeypatch.setattr(check_cache.importlib.metadata, "version", lambda name: "0")
    opened()
    index(data, num_workers=1)
    assert opened() == (72, 72, 0)
    assert contents("index") == first


def test_masks_that_a_split_leaves_aside_stay_known_and_gone_files_do_not(
    data: Path, opened: Callable[[], tuple[int, int, int]]
) -> None:
    index(data, num_workers=1)
    bases = Path("index/base_images.csv").read_text("utf-8")
    Path("split.csv").write_text(bases.replace(",train,", ",unlabeled,"), "utf-8")
    index(data, num_workers=1, split_file="split.csv")
    opened()
    gone = sorted((data / "images").iterdir())[9]
    gone.unlink()
    index(data, num_workers=1)
    assert opened() == (0, 1, 0)
    assert gone.name.encode() not in gzip.decompress(Path("index/checked.json.gz").read_bytes())


def test_masks_of_numbers_are_counted_again_without_being_opened(
    data: Path, opened: Callable[[], tuple[int, int, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    """What they stand for depends on all masks, so on one that changed too."""
    masks = sorted((data / "masks").iterdir())
    for path in masks:
        Image.new("L", (128, 128), 2).save(path)
        os.utime(path, (OLD, OLD))
    Image.linear_gradient("L").resize((128, 128)).point(lambda level: level // 51).save(masks[0])
    os.utime(masks[0], (OLD, OLD))
    first = index(data, num_workers=1)
    assert first["mask_numbers"].endswith("(row numbers)")
    opened()
    Image.new("L", (128, 128), 6).save(masks[5])
    os.utime(masks[5], (OLD + 1, OLD + 1))
    second = index(data, num_workers=1)
    assert opened() == (0, 1, 0)
    assert second["mask_numbers"].endswith("(row numbers from 1)")
    assert second["class_pixels"] != first["class_pixels"]
    assert "1 mask changed since the last index" in capsys.readouterr().out
    assert_as_a_fresh_index(data)

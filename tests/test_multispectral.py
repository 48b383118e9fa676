"""The whole way with four bands of five, where one class can be told by near infrared alone."""

from pathlib import Path

import pytest
from PIL import Image

from salakseg import assess_plan, evaluate, export, index, patchify, predict, shard, suggest, train
from salakseg.errors import InputError
from salakseg.model.weights import load_model
from tests.data.cutting import QUIET
from tests.multispectral import write_photos

pytestmark = [*QUIET, pytest.mark.slow]
RUN = {"generator": "tiny", "num_steps": 80, "eval_every": 40, "batch_size": 4, "device": "cpu"}


def trained(photos: Path, name: str, bands: str, **options: object) -> float:
    """The validation mIoU of a run in NAME/."""
    patchify(photos, out=f"{name}/data", size=64, bands=bands, num_workers=1)
    index(f"{name}/data", out=f"{name}/index", num_workers=1)
    shard(index_dir=f"{name}/index", out=f"{name}/shards", num_workers=1)
    run = RUN | options
    folders = {"shards_dir": f"{name}/shards", "checkpoint_dir": f"{name}/checkpoints"}
    return float(train(**folders, **run)["best_val_miou"])


def test_infrared_tells_what_colours_do_not() -> None:
    photos = write_photos(Path("photos"), 4, 1)
    colours, four = trained(photos, "rgb", "3,2,1"), trained(photos, "four", "3,2,1,5")
    assert four > 0.9 and colours < 0.7
    best = Path("four/checkpoints/best_model.pth")
    result = evaluate(best, shards_dir="four/shards", device="cpu")
    assert result["miou"] == pytest.approx(four, abs=1e-3)

    # It can be gone on with.
    train(resume=True, num_steps=82, shards_dir="four/shards", checkpoint_dir=best.parent)
    further = load_model(best.parent / "final_model.pth")
    assert further.iteration == 82 and further.band_set == load_model(best).band_set

    # A model of colours is widened to begin with; a model of four bands takes no three.
    options = RUN | {"num_steps": 10, "eval_every": 10, "checkpoint_dir": "restored"}
    colourful = "rgb/checkpoints/best_model.pth"
    train(restore_from=colourful, shards_dir="four/shards", **options)
    with pytest.raises(InputError, match=r"takes other bands .*nir.* than rgb.shards has"):
        train(restore_from=best, shards_dir="rgb/shards", overwrite=True, **options)
    with pytest.raises(InputError, match=r"takes other bands .red, green, blue. than four.shards"):
        evaluate(colourful, shards_dir="four/shards", device="cpu")

    [done] = predict([photos / "images/plot4.tif"], model=best, device="cpu")
    assert (done.pixels > 0).all()
    suggest(count=1, model=best, index_dir="four/index", shards_dir="four/shards", export="label")
    assert Path("label/images/plot4.tif").exists() and Path("label/masks/plot4.png").exists()
    with Image.open("suggestions/contact_sheet.png") as sheet:
        assert max(sheet.getextrema()[1]) > 150  # grass is green
    assess_plan([done.classes], points=12)
    assert len(list(Path("assessment/chips").glob("*.jpg"))) == 12
    pytest.importorskip("onnxruntime")
    assert export(best).exists()

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from salakseg.training.monitor import draw_curves, gpu_memory_mb, iteration_line
from salakseg.training.run_log import LOG_COLUMNS, CsvLog, log_columns


def test_the_console_line_is_the_guides() -> None:
    row = {"loss_ce": 0.5234, "loss_fm": 0.0119, "loss_st": 0.2341, "loss_d": 0.145}
    assert iteration_line(1000, 50000, row, 2) == (
        "Iter 1000/50000 | Loss_CE: 0.523 | Loss_FM: 0.012 | Loss_ST: 0.234 | "
        "Loss_D: 0.145 | ST_Count: 2"
    )


def test_there_is_no_gpu_memory_on_a_cpu() -> None:
    assert gpu_memory_mb(torch.device("cpu")) is None


def write_log(folder: Path, count: int, best: int) -> CsvLog:
    log = CsvLog(folder / "log.csv", log_columns(["Water"]), 0)
    for i in range(1, count + 1):
        log.write(
            {
                "iteration": 100 * i,
                "loss_ce": 1 / i,
                "loss_fm": 0.3,
                "loss_st": 0.2,
                "loss_d": 0.4,
                "st_count": 3.2,
                "st_pixels": 0.8,
                "learning_rate": 1e-3 / i,
            }
        )
        # Beside the best one, all are equal.
        miou = 0.5 if i == best else 0.4
        log.write({"iteration": 100 * i, "train_miou": 0.45, "val_miou": miou})
    return log


@pytest.mark.parametrize("count", [1, 3, 500])
def test_curves_show_the_log(tmp_path: Path, count: int) -> None:
    pictures = []
    for best in (1, count):
        draw_curves(tmp_path, write_log(tmp_path, count, best).rows)
        pictures.append(np.asarray(Image.open(tmp_path / "curves.png").convert("RGB")).astype(int))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "log.csv"]
    height, width, _ = pictures[0].shape
    changed = (pictures[0] != pictures[1]).any(2)
    # Another best evaluation shows in the panel of mIoU, at the top right, and nowhere else.
    assert changed.any() == (count > 1)
    assert not changed[:, : width // 2].any() and not changed[height * 6 // 10 :].any()


def test_curves_of_a_run_without_validation_or_self_training(tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "log.csv", LOG_COLUMNS, 0)
    draw_curves(tmp_path, log.rows)
    assert not (tmp_path / "curves.png").exists()
    zeros = dict.fromkeys(("loss_fm", "loss_st", "loss_d", "st_count", "st_pixels"), 0.0)
    log.write({"iteration": 100, "loss_ce": 0.5, "learning_rate": 0.001} | zeros)
    log.write({"iteration": 100, "train_miou": 0.4, "judge": ""})
    draw_curves(tmp_path, log.rows)
    assert (tmp_path / "curves.png").exists()

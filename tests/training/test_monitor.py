from pathlib import Path

from salakseg.training.monitor import LOG_COLUMNS, CsvLog, iteration_line


def test_the_console_line_is_the_guides() -> None:
    row = {"loss_ce": 0.5234, "loss_fm": 0.0119, "loss_st": 0.2341, "loss_d": 0.145}
    assert iteration_line(1000, 50000, row, 2) == (
        "Iter 1000/50000 | Loss_CE: 0.523 | Loss_FM: 0.012 | Loss_ST: 0.234 | "
        "Loss_D: 0.145 | ST_Count: 2"
    )


def test_a_resumed_log_has_each_row_once(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    whole = CsvLog(path, LOG_COLUMNS, 0)
    for iteration in (100, 200):
        whole.write({"iteration": iteration, "loss_ce": 1 / iteration})
    expected = path.read_bytes()
    whole.write({"iteration": 300, "loss_ce": 0.5})  # done after the last save: done again
    CsvLog(path, LOG_COLUMNS, 200)
    assert path.read_bytes() == expected


def test_a_new_run_starts_an_empty_log(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    CsvLog(path, LOG_COLUMNS, 0).write({"iteration": 100})
    CsvLog(path, LOG_COLUMNS, 0)
    assert path.read_text(encoding="utf-8").count("\n") == 1

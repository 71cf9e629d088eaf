"""The curve of a training: its file, figure and table."""

import pytest

from papez_lobes.errors import UserError
from papez_lobes.training.curve import FILE, TrainingCurve, curve_table, main


def record(epoch):
    return {"epoch": epoch, "lr": 0.001, "audio_per_second": 100.0, "audio_per_cpu_second": 120.0,
            "train": {"loss": -epoch / 2, "mean_depth": 2.0, "audio_hours": epoch * 1.5},
            "valid": {"loss": -epoch / 3, "si_snr_i": epoch / 3, "mean_depth": 3.0}}


def test_a_picture_and_a_table_are_made_of_the_file_by_a_command(tmp_path, capsys):
    curve = TrainingCurve(tmp_path / FILE)
    for epoch in range(1, 51):
        curve.add(**record(epoch))
    picture = tmp_path / "curve.png"
    picture.write_bytes(b"mine")
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--figure", str(picture)])
    assert "curve.png: exists" in capsys.readouterr().err and picture.read_bytes() == b"mine"
    main([str(tmp_path), "--figure", str(picture), "--markdown", "--overwrite"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    rows = capsys.readouterr().out.strip().splitlines()[4:]
    assert len(rows) == 20 and rows[0].startswith("| 1.5 |") and rows[-1].startswith("| 75.0 |")
    assert curve_table(curve.records, rows=50).count("\n") == 2 + 50


def test_a_file_that_is_no_curve_and_a_folder_without_one_are_one_line(tmp_path, capsys):
    (tmp_path / FILE).write_text("[{")
    with pytest.raises(UserError, match="is no training curve"):
        TrainingCurve(tmp_path / FILE).add(epoch=1)
    with pytest.raises(SystemExit):
        main([str(tmp_path / "nothing")])
    assert "no epoch of a training" in capsys.readouterr().err


def test_a_picture_that_cannot_be_written_is_one_line(tmp_path, capsys):
    TrainingCurve(tmp_path / FILE).add(**record(1))
    for name, message in (("curve.xyz", "no kind of picture"), (f"{FILE}/x.png", "be written")):
        with pytest.raises(SystemExit):
            main([str(tmp_path), "--figure", str(tmp_path / name)])
        line, = capsys.readouterr().err.splitlines()
        assert message in line

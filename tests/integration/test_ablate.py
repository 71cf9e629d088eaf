"""ablate.py at its smallest: trains, resumes, skips what is finished, reports."""

import json

import pytest
from ablate import main

from tests.recipe_runs import TINY_TRAINING, as_words
from tests.trees import write_small_tree

pytestmark = pytest.mark.slow


def test_two_ablations_train_resume_and_make_one_table(tmp_path, capfd):
    tree, out = write_small_tree(tmp_path / "2speakers", counts=(4, 2, 2)), tmp_path / "out"
    own = {"data_folder": tree, "N_epochs": 1, "save_audio": 0, "num_slots": None}
    words = as_words({**TINY_TRAINING, **own})
    command = ["slots_0", "learned_memory", "--out", str(out), "--", *words]
    main(command)
    rows = json.loads((out / "ablations.json").read_text())
    assert [row["name"] for row in rows] == ["slots_0", "learned_memory"]
    assert rows[1]["params"] == rows[0]["params"] + 10 * 17
    assert all(row["macs_per_second"] > 0 and row["rtf"] > 0 for row in rows)
    assert (out / "ablations.png").stat().st_size > 3000
    assert "| slots_0 |" in (out / "ablations.md").read_text()
    capfd.readouterr()
    # one is interrupted after its epoch; the other is not touched
    log = (out / "slots_0/train_log.txt").read_text()
    (out / "slots_0/summary.json").unlink()
    before = (out / "learned_memory/summary.json").stat().st_mtime_ns
    main(command)
    said = capfd.readouterr()
    assert "Going into epoch" not in said.err
    assert "epoch: 1" in log and (out / "slots_0/train_log.txt").read_text().startswith(log)
    assert (out / "learned_memory/summary.json").stat().st_mtime_ns == before
    lines = said.out.splitlines()
    assert f"learned_memory: is finished in {out / 'learned_memory'}" in lines
    assert "| learned_memory |" in said.out
    (out / "ablations.json").unlink()
    main(["learned_memory", "--out", str(out), "--report"])
    assert [row["name"] for row in json.loads((out / "ablations.json").read_text())] == [
        "learned_memory"]

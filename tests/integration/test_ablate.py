"""papez ablate at its smallest: trains, skips what is finished, reports."""

import json

from papez_lobes.tools.cli import main
from tests.integration.test_recipe import TINY
from tests.trees import write_small_tree


def test_two_ablations_one_table(tmp_path, capfd):
    tree, out = write_small_tree(tmp_path / "2speakers", counts=(4, 2, 2)), tmp_path / "out"
    options = {**TINY, "data_folder": tree, "N_epochs": 1, "save_audio": 0}
    options.pop("num_slots")
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    command = ["ablate", "slots_0", "learned_memory", "--out", str(out), "--", *words]
    assert main(command) == 0
    rows = json.loads((out / "ablations.json").read_text())
    assert [row["name"] for row in rows] == ["slots_0", "learned_memory"]
    assert rows[1]["params"] == rows[0]["params"] + 10 * 17
    assert (out / "ablations.png").stat().st_size > 3000
    capfd.readouterr()
    assert main(command) == 0  # nothing is trained again
    said = capfd.readouterr()
    assert "Going into epoch" not in said.err and "| learned_memory |" in said.out

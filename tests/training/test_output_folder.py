"""The output folder: one training at a time, and no trial run over a real one."""

import re
import subprocess
import sys

import pytest

from papez_lobes.errors import UserError
from papez_lobes.training.output_folder import (
    WRITTEN,
    claim_output_folder,
    keep_hyperparameters,
)

HOLD = """
import sys, time
from papez_lobes.training.output_folder import claim_output_folder
claim_output_folder(sys.argv[1], save_folder=sys.argv[2])
print("claimed", flush=True)
time.sleep(60)
"""


def test_a_second_training_is_refused_while_the_first_lives_and_takes_over_when_it_is_killed(
    tmp_path,
):
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(out), str(out / "save")],
                          stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "claimed\n"
        with pytest.raises(UserError, match=rf"process {first.pid} on .* is training in it"):
            claim_output_folder(out)
        (tmp_path / "link").symlink_to(out)
        for other_name in (tmp_path / "link", out / "../out"):
            with pytest.raises(UserError, match=rf"process {first.pid} on .* is training in it"):
                claim_output_folder(other_name)
        with pytest.raises(UserError, match=f"out/save: process {first.pid} .* another save_fol"):
            claim_output_folder(tmp_path / "other", save_folder=out / "save")
        first.kill()
        first.wait()
    claim_output_folder(out)


@pytest.mark.parametrize("left", ["save/CKPT+2026", "bundle"])
def test_a_trial_run_does_not_replace_what_a_training_left(tmp_path, left):
    (tmp_path / left).mkdir(parents=True)
    with pytest.raises(UserError, match="holds a training, which --debug would replace"):
        claim_output_folder(tmp_path, debug=True)
    if left != "bundle":  # checkpoints may lie elsewhere
        with pytest.raises(UserError, match="which --debug would replace"):
            claim_output_folder(tmp_path / "new", True, tmp_path / "save")
    claim_output_folder(tmp_path)


@pytest.mark.parametrize("name", WRITTEN)
def test_a_users_own_file_is_not_replaced_by_a_training(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=f"holds no training, but a file {re.escape(name)}"):
        claim_output_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    (tmp_path / "save/CKPT+2026").mkdir(parents=True)  # then it is a training's
    claim_output_folder(tmp_path)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        claim_output_folder(tmp_path / "file/out")


def test_a_training_goes_on_with_its_own_hyperparameters_alone(tmp_path):
    keep_hyperparameters(tmp_path, "papez.yaml", {"num_slots": 10, "max_depth": 16})
    (tmp_path / "CKPT+1").mkdir()
    keep_hyperparameters(tmp_path, "papez.yaml", {"num_slots": 10, "max_depth": 8})
    with pytest.raises(UserError, match=r": holds checkpoints of num_slots 10, not 4; take that"):
        keep_hyperparameters(tmp_path, "papez.yaml", {"num_slots": 4, "max_depth": 8})

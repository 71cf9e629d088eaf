"""ablate.py: its listing, its commands, and what it leaves alone or refuses."""

import json
import shlex

import ablate
import pytest
from ablate import TRAIN, ablations, main, train_command

from papez_lobes.config.experiments import load_experiment
from papez_lobes.config.separator_files import (
    read_hyperparameters,
    separator_file,
    set_hyperparameters,
)
from papez_lobes.errors import UserError

HPARAMS = separator_file("papez").parent
ROWS = ablations()


def fails(*argv):
    with pytest.raises(SystemExit, match="2"):
        main(argv)


def test_commands_and_listing(tmp_path, capsys):
    main(["--list"])
    listed = capsys.readouterr().out
    assert all(f"{name}  " in listed for name in ROWS)
    out = str(tmp_path / "out")
    options = ["--print", "--out", out, "--", "--N_epochs", "1"]
    main(["slots_4", "learned_memory", *options])
    first, second = capsys.readouterr().out.splitlines()
    assert "--num_slots 4" in first and "--N_epochs 1" in first and "papez.yaml" in first
    assert "learned_memory/experiment.yaml" in second
    text = (tmp_path / "out/learned_memory/experiment.yaml").read_text()
    assert "separator: !include:learned_memory.yaml\n    num_spks: !ref <num_spks>" in text
    assert (tmp_path / "out/learned_memory/learned_memory.yaml").is_file()
    fails("slots_5", "--out", out)
    assert "slots_5: no such ablation; there are: papez, slots_0" in capsys.readouterr().err
    fails("soft", "--out", out, "--report")
    assert "no ablation that was asked for is finished" in capsys.readouterr().err
    wrong = ["--print", "--out", out, "--experiment", str(HPARAMS / "papez.yaml")]
    fails("no_halting", *wrong)
    assert "papez.yaml: has no line 'separator: !include:FILE'" in capsys.readouterr().err


def test_what_is_finished_is_left_alone_and_other_options_are_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ablate, "_report", lambda names, out: None)
    monkeypatch.setattr(ablate.subprocess, "run", lambda words: pytest.fail("trains"))
    run = ["soft", "--out", str(tmp_path), "--", "--seed"]
    words = train_command("soft", ROWS["soft"], tmp_path, ablate.EXPERIMENT, ["--seed", "1"])
    summary = tmp_path / "soft/summary.json"
    summary.parent.mkdir()
    results = {"results": {"all": {"si_snr_i": 1.0}}}
    summary.write_text(json.dumps({"command": shlex.join(words[1:]), **results}))
    main(["soft", *run, "1"])  # named twice, told once
    assert capsys.readouterr().out == f"soft: is finished in {tmp_path / 'soft'}\n"
    main([*run, "2"])
    assert f"{tmp_path / 'soft'}, by: {TRAIN} " in capsys.readouterr().out


def test_what_has_no_score_is_not_finished_and_a_damaged_summary_is_named(tmp_path, capsys):
    out, summary = ["--out", str(tmp_path), "--report"], tmp_path / "soft/summary.json"
    summary.parent.mkdir()
    summary.write_text(json.dumps({"results": {"all": {"si_snr_i": None}}}))
    fails("soft", *out)
    assert "no ablation that was asked for is finished" in capsys.readouterr().err
    for damaged in ('{"results', "[]", "{}"):
        summary.write_text(damaged)
        fails("soft", *out)
        assert "soft/summary.json: no summary of an evaluation; delete" in capsys.readouterr().err
    fails("soft", *out, "--experiment", "/nowhere.yaml")
    assert "/nowhere.yaml: no such file" in capsys.readouterr().err


def test_a_separator_of_its_own_gets_the_hyperparameters_of_the_experiment_s(tmp_path):
    """In a folder whose name has a space."""
    hparams = {"N_encoder_out": 64, "chunk_tokens": 40, "halting_bias": -2.0}
    (tmp_path / "mine.yaml").write_text(set_hyperparameters(separator_file("papez"), hparams))
    text = (TRAIN.parent / "hparams/papez.yaml").read_text()
    experiment, out = tmp_path / "experiment.yaml", tmp_path / "an out"
    experiment.write_text(text.replace("../../../../hparams/papez.yaml", "mine.yaml"))
    for name in ("no_path", "halting_network"):
        file = train_command(name, ROWS[name], out, experiment, ["--data_folder", "x"])[2]
        loaded = load_experiment([file, "--data_folder", "x", "--output_folder", str(out / name)])
        theirs = read_hyperparameters(tmp_path / "mine.yaml")
        assert theirs == read_hyperparameters(separator_file("papez")) | hparams
        assert {key: loaded.hyperparameters[key] for key in theirs} == theirs
    assert loaded.hyperparameters["halting_dim"] == 64
    assert "NetworkHalting" in repr(loaded.hparams["modules"]["separator"].masknet)


def test_an_experiment_with_other_hyperparameters_takes_no_separator_of_papez(tmp_path):
    experiment = TRAIN.parent / "hparams/papez_small.yaml"
    with pytest.raises(UserError, match="its separator has bottleneck_dim"):
        train_command("no_path", ROWS["no_path"], tmp_path, experiment, [])
    assert not list(tmp_path.iterdir())
    assert train_command("slots_0", ROWS["slots_0"], tmp_path, experiment, [])[2] == str(experiment)

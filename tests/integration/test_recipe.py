"""The recipe from its command line, at tiny size: train, resume, test, bundle, and mistakes."""

import json
import re
import shutil

import numpy as np
import pytest
import soundfile
import torch
from speechbrain.inference.separation import SepformerSeparation

from papez_lobes.config.command_line import RUN_OPTIONS
from papez_lobes.config.experiments import load_experiment
from papez_lobes.errors import UserError
from papez_lobes.inference.bundle import load_bundle
from papez_lobes.separator import Separator
from papez_lobes.training.logs import LOG_CONFIG
from papez_lobes.training.losses import score
from tests.recipe_runs import RECIPE, log_of, results_of, train
from tests.trees import write_small_tree

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(tree, output folder) after two epochs."""
    root = tmp_path_factory.mktemp("a folder with spaces")
    tree, out = write_small_tree(root / "2speakers"), root / "out"
    train(tree, out, N_epochs=2)
    return tree, out


def test_the_console_shows_one_line_an_epoch_and_results_alone(tmp_path):
    tree = write_small_tree(tmp_path / "2speakers", counts=(2, 2, 2))
    done = train(tree, tmp_path / "out", N_epochs=2)
    text = done.stdout + done.stderr
    assert [text.count(f"epoch: {epoch}, lr") for epoch in (1, 2)] == [1, 1]
    for note in ("quirks", "empty state_dict", "partial+CKPT", "torchvision", "Gradscaler"):
        assert note not in text, note
    log = (tmp_path / "out/log.txt").read_text()
    assert "quirks" in log and "Saved an end-of-epoch checkpoint" in log
    resumed = train(tree, tmp_path / "out", N_epochs=3)
    assert "going on after epoch 2" in resumed.stdout


def test_it_leaves_what_a_user_expects(trained):
    tree, out = trained
    for name in ("hyperparams.yaml", "train_log.txt", "log.txt", "test_results.csv", "train.py"):
        assert (out / name).is_file(), name
    rows, average = results_of(out)
    assert [row["snt_id"] for row in rows] == ["m00", "m01", "m02"]
    assert average["snt_id"] == "avg"
    mean = np.mean([float(row["si_snr_i"]) for row in rows])
    assert float(average["si_snr_i"]) == pytest.approx(mean)
    assert 1 <= float(average["mean_depth"]) <= 3
    heard = sorted(path.name for path in (out / "audio_results").iterdir())
    assert len(heard) == 2 * 5 and "m00_s1hat.wav" in heard
    source, _ = soundfile.read(out / "audio_results/m01_s2.wav")
    original, _ = soundfile.read(tree / "wav8k/min/tt/s2/m01.wav")
    np.testing.assert_allclose(source, original, atol=1.5 / 2**15)
    assert not list(out.rglob("*.part"))


def test_speechbrain_loads_the_bundle_and_gives_the_same_samples_as_our_evaluation(
    trained, monkeypatch, tmp_path
):
    tree, out = trained
    monkeypatch.chdir(tmp_path)
    theirs = SepformerSeparation.from_hparams(source=str(out / "bundle"))
    ours = load_bundle(out / "bundle")
    rows, _ = results_of(out)
    for row in rows:
        folder = tree / "wav8k/min/tt"
        mixture, *sources = (
            torch.from_numpy(soundfile.read(folder / kind / f"{row['snt_id']}.wav",
                                            dtype="float32")[0])
            for kind in ("mix", "s1", "s2")
        )
        estimates = theirs.separate_batch(mixture[None])
        same = Separator.of(ours.mods)(mixture[None])
        torch.testing.assert_close(same, estimates, atol=1e-5, rtol=0)
        scores = score(estimates, torch.stack(sources, -1)[None], mixture[None])
        # the recipe evaluated it in a padded batch
        assert scores.si_snr.mean().item() == pytest.approx(float(row["si_snr"]), abs=1e-3)
    assert not list(tmp_path.iterdir())


def test_bundle_takes_the_separators_hyperparameters(trained):
    _, out = trained
    model = SepformerSeparation.from_hparams(
        source=str(out / "bundle"), overrides={"max_depth": 1, "halting_threshold": 0.5}
    )
    _, trace = Separator.of(model.mods)(torch.randn(1, 4000), return_trace=True)
    assert trace.depth.max() == 1


def test_training_goes_on_where_it_stopped_and_its_loss_falls(trained, tmp_path):
    tree, _ = trained
    out = tmp_path / "resumed"
    train(tree, out, N_epochs=1)
    train(tree, out, N_epochs=6)
    epochs = [line for line in log_of(out) if "epoch" in line]
    assert [line["epoch"] for line in epochs] == [1, 2, 3, 4, 5, 6]
    assert epochs[-1]["train loss"] < epochs[0]["train loss"]
    assert epochs[0]["lr"] == 0.003 and epochs[5]["lr"] == pytest.approx(0.003 * 0.99**5, rel=0.01)
    before = results_of(out)[0]
    done = train(tree, out, "--test_only", N_epochs=9)
    assert "Going into epoch" not in done.stderr
    again = results_of(out)[0]
    assert [{**row, "rtf": 0} for row in again] == [{**row, "rtf": 0} for row in before]


def test_training_begins_with_a_bundle_and_grows(trained, tmp_path):
    tree, old = trained
    begun = {"start_from": old / "bundle", "lr": 1e-12, "weight_decay": 0.0}
    train(tree, tmp_path / "out", N_epochs=1, max_depth=2, chunk_tokens=10, **begun)
    before, after = (torch.load(out / "bundle/masknet.ckpt") for out in (old, tmp_path / "out"))
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-6, rtol=0)
    wrong = train(tree, tmp_path / "wrong", check=False, start_from=old / "bundle", ffn_dim=16)
    assert wrong.returncode == 2 and "Traceback" not in wrong.stderr
    assert "does not fit the separator with these hyperparameters" in wrong.stderr


def test_test_only_with_other_hyperparameters_leaves_the_bundle_alone(trained, tmp_path):
    tree, out = trained[0], shutil.copytree(trained[1], tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (out / "bundle").iterdir()}
    train(tree, out, "--test_only", N_epochs=2, max_depth=1)
    assert {path.name: path.read_bytes() for path in (out / "bundle").iterdir()} == before
    assert float(results_of(out)[1]["mean_depth"]) == 1
    summary = json.loads((out / "summary.json").read_text())
    assert summary["hyperparameters"]["max_depth"] == 1 and "bundle" not in summary
    assert summary["dtype"] == "fp32" and summary["device"] == "cpu"


@pytest.mark.parametrize("speakers", [1, 3])
def test_any_number_of_speakers_is_trained_scored_and_bundled(tmp_path, speakers):
    tree = write_small_tree(tmp_path / f"{speakers}speakers", speakers, counts=(2, 1, 1))
    train(tree, tmp_path / "out", N_epochs=1, num_spks=speakers, batch_size=1)
    model = SepformerSeparation.from_hparams(source=str(tmp_path / "out/bundle"))
    assert model.separate_batch(torch.randn(2, 999)).shape == (2, 999, speakers)
    rows, _ = results_of(tmp_path / "out")
    scores = [name for name in rows[0] if re.fullmatch(r"si_snr_s\d+", name)]
    assert scores == [f"si_snr_s{number}" for number in range(1, speakers + 1)]
    assert all(float(rows[0][name]) for name in scores)


# Each option of SpeechBrain, in few trainings. `test_only` and `device` are given elsewhere.
RUNS = [
    ({"precision": "bf16", "eval_precision": "bf16", "max_grad_norm": 1, "nonfinite_patience": 1,
      "ckpt_interval_minutes": 0, "ckpt_interval_steps": 1, "grad_accumulation_factor": 2,
      "optimizer_step_limit": 3, "distributed_backend": "gloo", "log_config": LOG_CONFIG},
     ["noprogressbar", "find_unused_parameters", "skip_nonfinite_grads", "tqdm_colored_bar",
      "remove_vector_weight_decay"]),
    ({"debug_batches": 1, "debug_epochs": 1, "ckpt_interval_minutes": 0.0001},
     ["debug", "debug_persistently", "bfloat16_mix_prec"]),
    ({"profile_warmup": 1, "profile_steps": 1, "ckpt_interval_minutes": 0}, ["profile_training"]),
]
REFUSED = {
    "jit": [], "compile": [], "jit_module_keys": ["separator"],
    "compile_module_keys": ["separator"], "auto_mix_prec": [], "data_parallel_backend": [],
    "precision": ["fp16"], "eval_precision": ["fp16"], "ckpt_interval_steps": ["1"],
    "optimizer_step_limit": ["0"], "grad_accumulation_factor": ["0"], "debug_batches": ["-1"],
}


def test_every_option_of_speechbrain_is_given_once():
    given = {*REFUSED, "test_only", "device"}
    for options, flags in RUNS:
        given |= {*options, *flags}
    left = set(RUN_OPTIONS) - given
    assert {name for name in left if not name.startswith("compile_")} == set()  # see "compile"


@pytest.mark.parametrize("options, flags", RUNS)
def test_options_of_speechbrain_train(tmp_path, options, flags):
    tree = write_small_tree(tmp_path / "2speakers", counts=(8, 1, 1))
    own = {"N_epochs": 2, "batch_size": 1, **options}
    train(tree, tmp_path / "out", *(f"--{name}" for name in flags), **own)
    if "optimizer_step_limit" in options:
        lines = (tmp_path / "out/log.txt").read_text()
        assert "Train iteration limit exceeded" in lines
        assert [line["epoch"] for line in log_of(tmp_path / "out") if "epoch" in line] == [1]


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_an_option_that_cannot_be_is_refused_in_one_line(name):
    words = [str(RECIPE / "hparams/papez.yaml"), "--data_folder", "x", "--device", "cpu"]
    with pytest.raises(UserError, match=name):
        load_experiment([*words, f"--{name}", *REFUSED[name]])


@pytest.mark.parametrize("name", ["jit", "precision"])
def test_the_line_comes_alone_and_before_data_are_prepared(tmp_path, name):
    out = tmp_path / "out"
    words = [f"--{name}", *REFUSED[name]]
    done = train(tmp_path, out, *words, check=False)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2 and len(lines) == 1 and name in lines[0], done.stderr
    assert not done.stdout and not out.exists()


def test_three_speakers_begin_with_a_bundle_for_two(trained, tmp_path):
    tree = write_small_tree(tmp_path / "3speakers", num_spks=3, counts=(4, 2, 2))
    begun = {"start_from": trained[1] / "bundle", "lr": 1e-12, "weight_decay": 0.0}
    train(tree, tmp_path / "out", N_epochs=1, num_spks=3, **begun)
    two, three = (torch.load(out / "bundle/masknet.ckpt") for out in (trained[1], tmp_path / "out"))
    for name, value in two.items():
        shared = three[name][tuple(map(slice, value.shape))]
        torch.testing.assert_close(shared, value, atol=1e-6, rtol=0)
    assert len(three["head.linear_out.weight"]) == 1.5 * len(two["head.linear_out.weight"])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"data_folder": "/nowhere/2speakers"}, "/nowhere/2speakers"),
        ({"num_spks": 3}, "num_spks"),
        ({"flags": ["--test_only"]}, "no checkpoint to test; train first"),
        ({"num_slot": 3}, "there is no option 'num_slot'; did you mean 'num_slots'?"),
        ({"num_heads": 3}, "num_heads is 3: it must divide the width of 16"),
        ({"segment_seconds": 0.0001}, "segment_seconds 0.0001: must be at least 0.1 s"),
        ({"grad_accumulation_factor": 9}, "training cannot begin: an epoch of 2 batches has no"),
        ({"start_from": "/nowhere"}, "/nowhere: no such bundle"),
    ],
)
def test_a_mistake_is_one_clear_line_and_nothing_is_trained(trained, tmp_path, change, message):
    tree, _ = trained
    options = {"data_folder": tree, "flags": (), **change}
    flags = options.pop("flags")
    done = train(options.pop("data_folder"), tmp_path / "out", *flags, check=False, **options)
    lines = [line for line in done.stderr.splitlines() if line.startswith("train.py: ")]
    assert done.returncode == 2 and len(lines) == 1 and message in lines[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out/save").exists() or not list((tmp_path / "out/save").glob("CKPT*"))


@pytest.mark.parametrize("options, message", [
    ({"N_epochs": 1}, "no epoch had a finite validation score; nothing is bundled"),
    ({"N_epochs": 2}, "training stopped: no step of epoch 2 had a finite gradient"),
])
def test_a_training_that_diverges_ends_in_one_line_without_a_bundle(tmp_path, options, message):
    tree = write_small_tree(tmp_path / "2speakers", counts=(4, 2, 2))
    done = train(tree, tmp_path / "out", check=False, lr=1e30, max_grad_norm=1e30, **options)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert message in done.stderr.strip().splitlines()[-1]
    assert not (tmp_path / "out/bundle").exists()

"""Command line -> objects, and every mistake on the way in one line."""

import re
from pathlib import Path

import pytest

import papez_lobes.training.brain
from papez_lobes.config.experiments import load_experiment
from papez_lobes.config.values import NEEDED
from papez_lobes.errors import UserError

RECIPE = Path(__file__).parents[2] / "recipes/WSJ0Mix/separation/hparams"
TINY = [
    "--data_folder", "/data", "--N_encoder_out", "16", "--num_heads", "2", "--ffn_dim", "16",
    "--num_steps", "3", "--output_folder",
]


def load(tmp_path, *argv, file="papez.yaml"):
    return load_experiment([str(RECIPE / file), *TINY, str(tmp_path), *argv])


def test_knobs_of_both_files_reach_the_modules(tmp_path):
    experiment = load(tmp_path, "--num_slots", "5", "--num_spks", "3", "--halting_bias", "-2.5")
    separator = experiment.hparams["separator"]
    assert separator["MaskNet"].num_spks == 3
    assert separator["Block"].attention.num_slots == 5
    assert separator["Halting"].bias == -2.5
    assert experiment.hparams["modules"]["masknet"] is separator["MaskNet"]
    assert experiment.knobs["num_slots"] == 5 and experiment.knobs["num_spks"] == 3
    assert experiment.knobs["max_depth"] == 3  # follows num_steps
    assert not any(key in experiment.knobs for key in ("Encoder", "MaskNet", "Decoder"))


def test_nested_overrides_work_too(tmp_path):
    experiment = load(tmp_path, "--separator={num_slots: 2, pruning: soft}")
    assert experiment.hparams["separator"]["Block"].attention.num_slots == 2


def test_a_later_option_wins(tmp_path):
    assert load(tmp_path, "--lr", "1", "--lr", "0.5").hparams["lr"] == 0.5


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--num_slot", "4"], "there is no key 'num_slot'; did you mean --num_slots?"),
        (["--separator={num_slot: 4}"], "there is no key 'num_slot'"),
        (["--frobnicate", "4"], "there is no key 'frobnicate'"),
        (["--lr", "fast"], "lr takes a number, not 'fast'"),
        (["--num_slots", "many"], "num_slots takes a whole number, not 'many'"),
        (["--num_slots", "2.5"], "num_slots takes a whole number, not 2.5"),
        (["--batch_size", "True"], "batch_size takes a whole number, not True"),
        (["--attend_padding", "3"], "attend_padding takes True or False, not 3"),
        (["--MaskNet", "4"], "there is no key 'MaskNet'"),
        (["--optimizer", "adam"], "'optimizer' is built by the file"),
        (["--test"], "there is no key 'test'"),
        (["--num_heads", "3"], "num_heads is 3: it must divide the width of 16"),
        (["--max_depth", "4"], "max_depth is 4: it must be between 1 and num_steps, 3"),
        (["--pruning", "hrad"], "pruning is 'hrad': it must be one of soft, hard"),
        (["--attend_padding", "True"], "pruning is 'hard' and attend_padding is True"),
        (["--num_slots", "17"], "num_slots is 17"),
        (["--device", "cuda:99"], "device 'cuda:99' cannot be used here; try cpu"),
        (["--lr", "[1"], "cannot read the option"),
        (["--segment_seconds", "abc"], "segment_seconds is 'abc': it must be a number above 0, or"),
        (["--segment_seconds", "0"], "segment_seconds is 0"),
        (["--training_minutes", "soon"], "training_minutes is 'soon'"),
        (["--lr", "-1"], "lr is -1: it must be a number above 0"),
        (["--lr", ".nan"], "lr is nan"),
        (["--batch_size", "0"], "batch_size is 0: it must be a whole number of at least 1"),
        (["--num_workers", "-1"], "num_workers is -1"),
        (["--noise_snr_db", "3"], "noise_snr_db takes a list, not 3"),
        (["--lr", "0.1", "twice"], "'twice' stands after the value '0.1'"),
    ],
)
def test_a_mistake_is_one_clear_line(tmp_path, argv, message):
    with pytest.raises(UserError) as caught:
        load(tmp_path, *argv)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_file_itself_holds_is_checked_too(tmp_path):
    text = (RECIPE / "papez.yaml").read_text().replace("../../../../", f"{RECIPE.parents[3]}/")
    for old, new, message in [
        ("\nlr: 0.0001", "\nlr: abc", "lr is 'abc': it must be a number above 0"),
        ("    shuffle: True", "    shufle: True", "train_dataloader_opts has 'shufle'"),
        ("ponder_cost: 0.0 ", "pounder_cost: 0.0 ", "has no key 'ponder_cost'"),
        ("\nlr: 0.0001", "\nlr: [0.0001", "line "),
    ]:
        assert old in text
        (tmp_path / "mine.yaml").write_text(text.replace(old, new, 1))
        with pytest.raises(UserError, match=re.escape(message)) as caught:
            load_experiment([str(tmp_path / "mine.yaml"), "--data_folder", "/data"])
        assert "\n" not in str(caught.value)


def test_every_key_that_training_reads_is_asked_for():
    """An experiment file of an earlier version lacks some."""
    code = (RECIPE.parent / "train.py").read_text()
    used = set(re.findall(r'hparams\["(\w+)"\]', code))
    brain = Path(papez_lobes.training.brain.__file__).read_text()
    used |= set(re.findall(r"self\.hparams\.(\w+)", brain))
    assert len(used) > 20 and used <= set(NEEDED)


@pytest.mark.parametrize("name, knob", [
    ("convtasnet", "num_repeats"), ("dprnn", "chunk_tokens"), ("skim", "segment_tokens")])
def test_knobs_of_speechbrain_s_separators_are_checked_too(tmp_path, name, knob):
    with pytest.raises(UserError, match=f"{knob} is 0: it must be a whole number of at least"):
        load_experiment([str(RECIPE / f"{name}.yaml"), "--data_folder", "x", f"--{knob}", "0",
                         "--output_folder", str(tmp_path)])


def test_a_list_may_be_written_with_spaces(tmp_path):
    experiment = load(tmp_path, "--noise_snr_db", "[-5,", "5]")
    assert experiment.hparams["noise_snr_db"] == [-5, 5]


def test_files_that_are_none(tmp_path):
    bad = tmp_path / "bad.yaml"
    for content, message in [
        (None, "no such file"), ("", "holds no keys"), ("a: [", "not valid YAML"),
        ("a: 1", "has no `separator:"),
        ("separator: !include:nowhere.yaml\n    a: 1", "nowhere.yaml: no such file"),
    ]:
        if content is not None:
            bad.write_text(content)
        with pytest.raises(UserError, match=message):
            load_experiment([str(bad)])


def test_a_missing_placeholder_names_the_key():
    with pytest.raises(UserError, match="data_folder"):
        load_experiment([str(RECIPE / "papez.yaml")])

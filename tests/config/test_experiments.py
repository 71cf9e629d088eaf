"""Experiments: from a command line to objects, and every mistake on the way in one line."""

import re
from pathlib import Path

import pytest
from hyperpyyaml import load_hyperpyyaml
from speechbrain import Brain

import papez_lobes.training.brain
from papez_lobes.config.experiments import NEEDED, load_experiment
from papez_lobes.config.separator_files import read_hyperparameters, separator_file
from papez_lobes.errors import UserError

RECIPE = Path(__file__).parents[2] / "recipes/WSJ0Mix/separation/hparams"
SMALL = [
    "--data_folder", "/data", "--N_encoder_out", "16", "--num_heads", "2", "--ffn_dim", "16",
    "--num_steps", "3", "--output_folder",
]


def load(tmp_path, *argv, file="papez.yaml"):
    return load_experiment([str(RECIPE / file), *SMALL, str(tmp_path), *argv])


def test_hyperparameters_of_both_files_reach_the_modules(tmp_path):
    experiment = load(tmp_path, "--num_slots", "5", "--num_spks", "3", "--halting_bias", "-2.5")
    separator = experiment.hparams["separator"]
    assert separator["MaskNet"].num_spks == 3
    assert separator["Block"].attention.num_slots == 5
    assert separator["Halting"].bias == -2.5
    assert experiment.hparams["modules"]["separator"].masknet is separator["MaskNet"]
    assert experiment.hyperparameters["num_slots"] == 5
    assert experiment.hyperparameters["num_spks"] == 3
    assert experiment.hyperparameters["max_depth"] == 3  # follows num_steps
    assert not any(key in experiment.hyperparameters for key in ("Encoder", "MaskNet", "Decoder"))


def test_nested_overrides_work_too(tmp_path):
    experiment = load(tmp_path, "--separator={num_slots: 2, pruning: soft}")
    assert experiment.hparams["separator"]["Block"].attention.num_slots == 2


def test_a_later_option_wins(tmp_path):
    experiment = load(tmp_path, "--lr", "1", "--separator={num_slots: 4}", "--num_slots", "5",
                      "--separator={dropout: 0.2}", "--lr", "0.5")
    assert experiment.hparams["lr"] == 0.5
    assert experiment.hparams["separator"]["num_slots"] == 5
    assert experiment.hyperparameters["num_slots"] == 5
    assert experiment.hyperparameters["dropout"] == 0.2


def test_the_command_line_wins_over_the_file(tmp_path):
    """On the Brain, for the options that the experiment shares with SpeechBrain."""
    given = {"precision": "bf16", "max_grad_norm": 2.5, "ckpt_interval_minutes": 0.01}
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    experiment = load(tmp_path, *words)
    hparams = experiment.hparams
    brain = Brain(hparams["modules"], hparams["optimizer"], hparams, experiment.run_opts)
    for name, value in given.items():
        assert getattr(brain, name) == hparams[name] == value
    assert load(tmp_path).run_opts.overridden_args.isdisjoint(given)


@pytest.mark.parametrize("by", ["name", "file"])
def test_another_separator_is_named_or_its_file_is(tmp_path, by):
    skim = separator_file("skim")
    if by == "file":
        skim = tmp_path / "my skim.yaml"
        skim.write_text(separator_file("skim").read_text(encoding="utf-8"), encoding="utf-8")
    experiment = load_experiment([
        str(RECIPE / "papez.yaml"), "--data_folder", "/data", "--rnn_dim", "8",
        "--separator", "skim" if by == "name" else str(skim), "--separator={num_repeats: 2}",
        "--save_folder", str(tmp_path / "save"),
    ])
    assert experiment.separator_file == skim
    assert list(experiment.hyperparameters) == list(read_hyperparameters(skim))
    assert experiment.hyperparameters["rnn_dim"] == 8
    assert experiment.hyperparameters["num_repeats"] == 2
    masknet = experiment.hparams["modules"]["separator"].masknet
    assert type(masknet).__name__ == "ResourceEfficientSeparator"
    assert masknet is experiment.hparams["separator"]["MaskNet"]
    assert experiment.hparams["output_folder"] == f"results/{skim.stem}/1234"


@pytest.mark.parametrize("name", ["papez", "skim"])
def test_a_copied_experiment_takes_the_separator_file_of_the_package(tmp_path, name):
    copy = tmp_path / "mine.yaml"
    copy.write_bytes((RECIPE / f"{name}.yaml").read_bytes())
    argv = [str(copy), "--data_folder", "/data", "--output_folder", str(tmp_path)]
    assert load_experiment(argv).separator_file == separator_file(name)


def test_a_copied_experiment_takes_its_own_separator_file_first(tmp_path):
    copy, own = tmp_path / "a/b/c/d/mine.yaml", tmp_path / "hparams/papez.yaml"
    for path, source in ((copy, RECIPE / "papez.yaml"), (own, separator_file("papez"))):
        path.parent.mkdir(parents=True)
        path.write_bytes(source.read_bytes())
    argv = [str(copy), "--data_folder", "/data", "--output_folder", str(tmp_path)]
    assert load_experiment(argv).separator_file == own


@pytest.mark.parametrize("argv, message", [
    (["--num_slots", "4"], "there is no option 'num_slots'"),  # papez.yaml's
    (["--rnn_dims", "4"], "there is no option 'rnn_dims'; did you mean 'rnn_dim'?"),
    (["--rnn_dim", "0"], "rnn_dim is 0: it must be a whole number of at least 1"),
])
def test_options_are_those_of_the_other_separator(argv, message):
    with pytest.raises(UserError, match=re.escape(message)):
        load_experiment([str(RECIPE / "papez.yaml"), "--separator", "skim", *argv])


def test_the_other_separator_needs_the_options_that_the_experiment_sets():
    message = r"demo.yaml, `separator` \(skim.yaml\): there is no option 'max_depth'"
    with pytest.raises(UserError, match=message):
        load_experiment([str(RECIPE / "demo.yaml"), "--separator", "skim"])


def test_what_is_saved_stands_alone_and_gives_the_same(tmp_path):
    experiment = load(tmp_path, "--separator", "papez_official", "--num_slots", "5",
                      "--start_from", "a <b> #c", "--weight_decay", "1e-5")
    experiment.save()
    with open(tmp_path / "hyperparams.yaml", encoding="utf-8") as stream:
        hparams = load_hyperpyyaml(stream)
    assert hparams["separator"]["Block"].attention.num_slots == 5
    assert hparams["separator"]["pruning"] == "soft"
    for name, value in experiment.hparams.items():
        if isinstance(value, (str, int, float, list)):
            assert hparams[name] == value, name


@pytest.mark.parametrize("argv", [["--help"], [str(RECIPE / "papez.yaml"), "-h"]])
def test_help_lists_the_options_and_trains_nothing(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        load_experiment(argv)
    assert not ended.value.code
    text = capsys.readouterr().out
    assert "--optimizer_step_limit: Number of optimizer steps to run." in text
    options = re.findall(r"--(lr|num_slots) \S+ +(.+)", text)
    assert len(argv) == 1 or options == [
        ("num_slots", "M working-memory slots, 0..N_encoder_out")]


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--num_slot", "4"], "there is no option 'num_slot'; did you mean 'num_slots'?"),
        (["--separator={num_slot: 4}"], "there is no option 'num_slot'"),
        (["--frobnicate", "4"], "there is no option 'frobnicate'"),
        (["--lr", "fast"], "lr is 'fast': it must be a number above 0"),
        (["--num_slots", "many"], "num_slots is 'many': it must be a whole number"),
        (["--num_slots", "2.5"], "num_slots is 2.5: it must be a whole number"),
        (["--batch_size", "True"], "batch_size is True: it must be a whole number"),
        (["--attend_padding", "3"], "attend_padding is '3': it must be True or False"),
        (["--MaskNet", "4"], "there is no option 'MaskNet'"),
        (["--optimizer", "adam"], "'optimizer' is built by the file"),
        (["--test"], "there is no option 'test'; did you mean 'test_only'?"),
        (["--num_heads", "3"], "num_heads is 3: it must divide the width of 16"),
        (["--max_depth", "4"], "max_depth is 4: it must be between 1 and num_steps, 3"),
        (["--pruning", "hrad"], "pruning is 'hrad': it must be one of soft, hard"),
        (["--attend_padding", "True"], "pruning is 'hard' and attend_padding is True"),
        (["--num_slots", "17"], "num_slots is 17"),
        (["--device", "cuda:99"], "device 'cuda:99' cannot be used here; try cpu"),
        (["--lr", "[1"], "lr is '[1': it must be a number"),
        (["--segment_seconds", "abc"], "segment_seconds is 'abc': it must be a number above 0, or"),
        (["--segment_seconds", "0"], "segment_seconds is 0"),
        (["--training_minutes", "soon"], "training_minutes is 'soon'"),
        (["--lr", "-1"], "lr is -1: it must be a number above 0"),
        (["--lr", ".nan"], "lr is nan"),
        (["--batch_size", "0"], "batch_size is 0: it must be a whole number of at least 1"),
        (["--num_workers", "-1"], "num_workers is -1"),
        (["--noise_snr_db", "3"], "noise_snr_db is 3: it must be a list of two numbers"),
        (["--noise_snr_db", "[5, -5]"], "noise_snr_db is [5, -5]: it must be"),
        (["--lr", "2024-01-01"], "lr is '2024-01-01': it must be a number above 0"),
        (["--speech_folder", ""], "speech_folder is '': it must be a path"),
        (["--lr"], "--lr has no value: it must be a number above 0"),
        (["--check_audio", "no"], "check_audio is 'no': it must be True or False"),
        (["--mixture_version", "mid"], "mixture_version is 'mid': it must be one of min, max"),
        (["--precision", "fp8"], "precision is 'fp8': it must be one of fp32, fp16, bf16"),
        (["--precision", "fp16", "--device", "cpu"], "precision: a CPU does not compute in fp16"),
        (["--auto_mix_prec", "--device", "cpu"], "auto_mix_prec: a CPU does not compute in fp16"),
        (["--ckpt_interval_steps", "5"], "ckpt_interval_minutes and ckpt_interval_steps exclude"),
        (["--jit_module_keys", "separatr"], "jit_module_keys: there is no option 'separatr'; did"),
        (["--separator={num_slots: 4, num_slots: 5}"], "found duplicate key"),
        (["--separator={num_slots: many}"], "--separator: num_slots is 'many': it must be a whole"),
        (["--separator"], "--separator: name a separator, a file, or options"),
        (["--separator", "skimm"], "skimm: no such separator; there are: convtasnet"),
        (["--separator", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["--lr", "0.1", "twice"], "'twice' follows '0.1', the value of --lr"),
    ],
)
def test_a_mistake_is_one_clear_line(tmp_path, argv, message):
    with pytest.raises(UserError) as caught:
        load(tmp_path, *argv)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_file_itself_holds_is_checked_too(tmp_path):
    text = (RECIPE / "papez.yaml").read_text().replace("../../../../", f"{RECIPE.parents[3]}/")
    text = text.replace("data_folder: !PLACEHOLDER", "data_folder: /data")
    for old, new, message in [
        ("\nlr: 0.0001", "\nlr: abc", "lr is 'abc': it must be a number above 0"),
        ("    shuffle: True", "    shufle: True",
         "`train_dataloader_opts`: there is no option 'shufle'; did you mean 'shuffle'?"),
        ("ponder_cost: 0.0 ", "pounder_cost: 0.0 ", "has no option 'ponder_cost'"),
        ("\nlr: 0.0001", "\nlr: [0.0001", "line "),
        ("\nlr: 0.0001", "\nlr: 1\nlr: 0.0001", "found duplicate key \"lr\""),
        ("\nskip_prep: False", "\nskip_prep: no", "skip_prep is 'no': it must be True or False"),
        ("\nspeech_folder: null", "\nspeech_folder: 12", "speech_folder is 12: it must be a path"),
        ("\ndata_folder: /data", "\ndata_folder: null", "data_folder is None: it must be a"),
        ("papez.yaml\n    num_spks:", "papez.yaml\n    num_spk:", "there is no option 'num_spk'"),
        ("papez.yaml\n", "papez.yaml\n    num_slots: 0.5\n", "num_slots is 0.5: it must be"),
        ("papez.yaml\n", "papez.yaml\n    ffn_dim: 0\n", "ffn_dim is 0: it must be a whole number"),
    ]:
        assert old in text
        (tmp_path / "mine.yaml").write_text(text.replace(old, new, 1))
        with pytest.raises(UserError, match=re.escape(message)) as caught:
            load_experiment([str(tmp_path / "mine.yaml"), "--output_folder", str(tmp_path)])
        assert "\n" not in str(caught.value)


def test_every_key_that_training_reads_is_asked_for():
    """An experiment file of an earlier version lacks some."""
    code = (RECIPE.parent / "train.py").read_text()
    used = set(re.findall(r'hparams\["(\w+)"\]', code))
    brain = Path(papez_lobes.training.brain.__file__).read_text()
    used |= set(re.findall(r"self\.hparams\.(\w+)", brain))
    assert len(used) > 20 and used <= set(NEEDED)


@pytest.mark.parametrize("name, option", [
    ("convtasnet", "num_repeats"), ("dprnn", "chunk_tokens"), ("skim", "segment_tokens")])
def test_hyperparameters_of_speechbrain_s_separators_are_checked_too(tmp_path, name, option):
    with pytest.raises(UserError, match=f"{option} is 0: it must be a whole number of at least"):
        load_experiment([str(RECIPE / f"{name}.yaml"), "--data_folder", "x", f"--{option}", "0",
                         "--output_folder", str(tmp_path)])


def test_a_list_may_be_written_with_spaces(tmp_path):
    experiment = load(tmp_path, "--noise_snr_db", "[-5,", "5]")
    assert experiment.hparams["noise_snr_db"] == [-5, 5]


def test_a_file_that_is_no_experiment_is_refused(tmp_path):
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
    with pytest.raises(UserError, match="data_folder has no value; give --data_folder: it must be"):
        load_experiment([str(RECIPE / "papez.yaml")])

"""Evaluation against what nobody here wrote: torchmetrics, mir_eval, SpeechBrain's own reader."""

import csv
import itertools
import json
import os
import warnings

import numpy as np
import pytest
import soundfile
import torch
from speechbrain.inference.separation import SepformerSeparation
from speechbrain.nnet.losses import get_si_snr_with_pitwrapper
from torchmetrics.functional.audio import scale_invariant_signal_noise_ratio

from papez_lobes.cli.main import main
from papez_lobes.data.audio import write_audio
from papez_lobes.data.corpora.wsj0mix import prepare_wsj0mix, split_folder
from papez_lobes.errors import UserError
from papez_lobes.evaluation.averages import summarise, table
from papez_lobes.evaluation.depths import depth_line, describe_depths
from papez_lobes.evaluation.evaluate import _workers, evaluate
from papez_lobes.evaluation.pictures import draw_distribution
from papez_lobes.evaluation.provenance import hash_bundle
from papez_lobes.evaluation.reference_metrics import available, measure, sdr
from papez_lobes.inference.bundle import load_bundle
from papez_lobes.separator import Separator
from tests.evaluation.cases import separator_of, write_case
from tests.tiny import write_tiny_bundle
from tests.trees import SAMPLE_RATE, write_small_tree


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """(tree, manifest, bundle) of four mixtures and an untrained model."""
    root = tmp_path_factory.mktemp("a case")
    tree = write_small_tree(root / "2speakers", counts=(1, 1, 4), seconds=(0.6, 0.9))
    manifest = prepare_wsj0mix(tree, root, 2, splits=("tt",))["tt"]
    return tree, manifest, write_tiny_bundle(root / "model")


def evaluated(case, **options):
    model = load_bundle(case[2])
    return evaluate(Separator.of(model.mods), case[1], 2, SAMPLE_RATE, **options)


WITH_SDR = [(1, 0)]  # SDR takes its time; for all orders, the measures are given the right pairs


def correlations(estimates, sources, *arguments):
    """In the place of the measures: that of each estimate with its source."""
    pairs = zip(estimates, sources, strict=True)
    values = [float(np.corrcoef(*pair)[0, 1]) for pair in pairs]
    return {"sdr": values, "sdr_i": values}


@pytest.mark.usefixtures("in_one_process")
@pytest.mark.parametrize("order", [*itertools.permutations(range(2)),
                                   *itertools.permutations(range(3))])
def test_every_permutation_is_found_once_and_used_by_all_measures(tmp_path, monkeypatch, order):
    rng = np.random.default_rng(len(order))
    sources = rng.normal(0, 0.1, (4000, len(order))).astype(np.float32)
    noisy = sources + 0.1 * rng.normal(0, 0.1, sources.shape).astype(np.float32) * (
        1 + np.arange(len(order)))
    if order in WITH_SDR:
        given = sdr(sources.T, noisy.T)
    else:
        monkeypatch.setattr("papez_lobes.evaluation.evaluate.measure", correlations)
        given = correlations(noisy.T, sources.T)["sdr"]
    separator = separator_of(torch.from_numpy(noisy[:, list(order)] * 3))
    manifest = write_case(tmp_path, sources)
    result = evaluate(separator, manifest, len(order), SAMPLE_RATE, examples=1)
    row, = result.rows
    for number in range(len(order)):
        pair = torch.from_numpy(noisy[:, number]), torch.from_numpy(sources[:, number])
        theirs = scale_invariant_signal_noise_ratio(*pair).item()
        assert row[f"si_snr_s{number + 1}"] == pytest.approx(theirs, abs=1e-3)
    found = [row[f"sdr_s{number + 1}"] for number in range(len(order))]
    assert found == pytest.approx(given, abs=0.02) and min(given) > 0.9
    best = scale_invariant_signal_noise_ratio(
        torch.from_numpy(result.first[0].estimates.T.copy()), torch.from_numpy(sources.T.copy()))
    assert (best > 10).all()  # the signals that are kept are in the sources' order


def test_sdr_is_that_of_mir_eval(case):
    result = evaluated(case, examples=2, limit=2, jobs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mir_eval.separation import bss_eval_sources

        for row, example in zip(result.rows, result.first, strict=True):
            sources, mixture = example.sources.T, example.mixture
            ours, *_ = bss_eval_sources(sources, example.estimates.T, compute_permutation=False)
            base, *_ = bss_eval_sources(sources, np.stack([mixture] * 2), compute_permutation=False)
            assert row["sdr"] == pytest.approx(ours.mean())
            assert row["sdr_i"] == pytest.approx((ours - base).mean())
            assert row["sdr_i_s2"] == pytest.approx(ours[1] - base[1])


def test_a_bundle_scores_as_with_speechbrains_own_reader_and_arithmetic(
    case, tmp_path, monkeypatch
):
    """What SpeechBrain's recipe does in save_results, on what its interface separates."""
    monkeypatch.chdir(tmp_path)
    tree, _, bundle = case
    theirs = SepformerSeparation.from_hparams(source=str(bundle))
    for row in evaluated(case, measures=(), jobs=0).rows:
        mixture, *sources = (
            torch.from_numpy(soundfile.read(
                split_folder(tree, "tt") / kind / f"{row['snt_id']}.wav", dtype="float32")[0])
            for kind in ("mix", "s1", "s2")
        )
        targets = torch.stack(sources, dim=-1).unsqueeze(0)
        predictions = theirs.separate_batch(mixture.unsqueeze(0))
        si_snr = -get_si_snr_with_pitwrapper(targets, predictions.clone())
        signal = torch.stack([mixture] * 2, dim=-1).unsqueeze(0)
        base = -get_si_snr_with_pitwrapper(targets, signal)
        assert row["si_snr"] == pytest.approx(si_snr.item(), abs=1e-3)
        assert row["si_snr_i"] == pytest.approx((si_snr - base).item(), abs=1e-3)


@pytest.mark.usefixtures("in_one_process", "blank_pictures")
def test_the_command_writes_all_its_files(case, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("papez_lobes.evaluation.evaluate.measure", correlations)
    tree, manifest, bundle = case
    out = tmp_path / "out"
    options = ["--out", str(out), "-j", "2", "--measures", "sdr", "--set", "max_depth=1"]
    assert main(["evaluate", str(bundle), str(tree), *options, "--group-by", "m0(0|1)?"]) == 0
    printed = capsys.readouterr().out
    assert "| all | 4 |" in printed and str(out / "evaluation.html") in printed
    with open(out / "results.csv", encoding="utf-8") as stream:
        *rows, average = csv.DictReader(stream)
    assert [row["snt_id"] for row in rows] == ["m00", "m01", "m02", "m03"]
    assert {row["mean_depth"] for row in rows} == {"1.0"}
    summary = json.loads((out / "summary.json").read_text())
    mean = np.mean([float(row["si_snr_i"]) for row in rows])
    assert summary["results"]["all"]["si_snr_i"] == pytest.approx(mean)
    assert float(average["si_snr_i"]) == pytest.approx(mean)
    assert summary["bundle_sha256"] == hash_bundle(bundle) and summary["versions"]["torch"]
    assert set(summary["results"]) == {"all", "0", "1", "m0"} - {"m0"} | {""}
    page = (out / "evaluation.html").read_text()
    for name in ("m00", "m03"):
        assert f"worst/{name}_s1hat.wav" in page and (out / f"worst/{name}.png").is_file()
    assert "http" not in page.replace("https://", "")
    # once more into the folder: what is no longer shown goes, other files stay
    for mine in ("mine.txt", "mine.wav"):
        (out / "worst" / mine).write_text("")
    again = ["--out", str(out), "--measures", "--set", "max_depth=1", "--limit", "1"]
    assert main(["evaluate", str(bundle), str(tree), *again, "--overwrite"]) == 0
    left = {path.name for path in (out / "worst").iterdir()}
    assert left == {"mine.txt", "mine.wav", "m00.png"} | {
        f"m00_{kind}.wav" for kind in ("mix", "s1", "s1hat", "s2", "s2hat")}
    # and from a manifest, one job: the same numbers
    other = tmp_path / "other"
    options = ["--out", str(other), "--jobs", "1", "--measures", "sdr", "--set", "max_depth=1"]
    assert main(["evaluate", str(bundle), str(manifest), *options]) == 0
    again = json.loads((other / "summary.json").read_text())["results"]["all"]
    for name in ("si_snr_i", "sdr_i"):
        assert again[name] == pytest.approx(summary["results"]["all"][name], abs=1e-5)


@pytest.mark.usefixtures("blank_pictures")
def test_what_the_steps_are_spent_on(case, tmp_path, capsys):
    result = evaluated(case, measures=(), examples=4, jobs=0)
    depth = np.concatenate([example.depth for example in result.first])
    told = describe_depths(result.depths)
    assert told["mean"] == pytest.approx(depth.mean(), abs=1e-3)
    assert told["sd"] == pytest.approx(depth.std(), abs=1e-3)
    assert sum(tokens for tokens, _ in told["by_speakers"].values()) == len(depth)
    assert set(told["by_speakers"]) <= {0, 1, 2}
    argv = ["evaluate", str(case[2]), str(case[1]), "--measures", "--out", str(tmp_path)]
    assert main(argv) == 0
    line = depth_line(told)
    assert line in capsys.readouterr().out
    assert line in (tmp_path / "evaluation.html").read_text()
    kept = json.loads((tmp_path / "summary.json").read_text())["depths"]
    assert kept["mean"] == told["mean"]


@pytest.mark.usefixtures("blank_pictures")
def test_a_model_that_is_no_bundle_of_ours_is_evaluated_too(case, tmp_path, capsys):
    _, manifest, bundle = case
    folder = tmp_path / "foreign"
    folder.mkdir()
    text = (bundle / "hyperparams.yaml").read_text()
    paths = f"    paths:\n        masknet: {folder}/deep/masknet.ckpt\n"
    (folder / "hyperparams.yaml").write_text(text + paths)
    (folder / "deep").mkdir()
    for source, target in (("encoder", "encoder"), ("decoder", "decoder"),
                           ("masknet", "deep/masknet")):
        (folder / f"{target}.ckpt").write_bytes((bundle / f"{source}.ckpt").read_bytes())
    for source in (folder, bundle):
        out = str(tmp_path / "out" / source.name)
        argv = ["evaluate", str(source), str(manifest), "--measures", "--out", out]
        if source == folder:  # its pretrainer could fetch from anywhere
            assert main(argv) == 2
            assert "pretrainer is" in (error := capsys.readouterr().err) and "--trust" in error
        assert main([*argv, "--trust"]) == 0
    first, second = capsys.readouterr().out.split("page:")[:2]
    assert first.splitlines()[2].split("|")[3:5] == second.splitlines()[3].split("|")[3:5]


@pytest.mark.usefixtures("in_one_process")
def test_silence_and_nan_are_named_and_left_out_of_the_mean(tmp_path):
    sources = np.random.default_rng(0).normal(0, 0.1, (4000, 2)).astype(np.float32)
    manifest = write_case(tmp_path, sources)
    silent = separator_of(torch.zeros(4000, 2))
    broken = separator_of(torch.full((4000, 2), torch.nan))
    for separator, defined in ((silent, True), (broken, False)):
        row, = evaluate(separator, manifest, 2, SAMPLE_RATE).rows
        assert np.isnan(row["sdr"]) and np.isfinite(row["si_snr"]) == defined
        good = {"snt_id": "good", "sdr": 3.0, "si_snr_i": 1.0}
        groups = summarise([row, {**row, **good, "failed": 0}])
        assert groups["all"]["sdr"] == 3.0
        if defined:
            assert groups["all"]["undefined"]["sdr"] == ["m"]
            assert "SDR, dB is not defined for 1 mixture(s)" in table(groups)
        else:
            assert groups["all"]["failed"] == ["m"]


def test_perceptual_measures_tell_clean_from_noisy(tmp_path):
    if not {"pesq", "stoi"} <= set(available()):
        pytest.skip("pesq and pystoi are not installed")
    rng = np.random.default_rng(0)
    speech = rng.normal(0, 0.1, (2, 16000)) * np.repeat(rng.uniform(0, 1, 20), 800)
    clean = measure(speech, speech, speech.sum(0), 8000, ["pesq", "stoi"])
    noisy = measure(speech + rng.normal(0, 0.1, speech.shape), speech, speech.sum(0), 8000,
                    ["pesq", "stoi"])
    assert clean["pesq_nb"][0] > 4 and clean["stoi"][0] == pytest.approx(1, abs=1e-3)
    assert noisy["pesq_nb"][0] < clean["pesq_nb"][0] and noisy["stoi"][1] < 0.99
    assert np.isnan(measure(speech[:, :9], speech[:, :9], speech[0, :9], 8000, ["stoi"])["stoi"][0])


@pytest.mark.parametrize("argv, message", [
    (["/nowhere", "MANIFEST"], "/nowhere: no such bundle"),
    (["BUNDLE", "/nowhere.csv"], "/nowhere.csv: no manifest can be read there"),
    (["BUNDLE", "/nowhere"], "/nowhere: no such folder"),
    (["BUNDLE", "MANIFEST", "--jobs", "0"], "jobs 0: must be 1 or more"),
    (["BUNDLE", "MANIFEST", "--limit", "0"], "limit 0: must be 1 or more"),
    (["BUNDLE", "MANIFEST", "--group-by", "("], "no regular expression"),
    (["BUNDLE", "MANIFEST", "--set", "max_depth"], "write it as key=value"),
    (["BUNDLE", "MANIFEST", "--set", "max_depth="], "write it as key=value"),
    (["BUNDLE", "MANIFEST", "--device", "meta"], "device 'meta' computes nothing; try cpu"),
    (["BUNDLE", "MANIFEST", "--set", "max_dept=1"], "there is no option 'max_dept'"),
    (["BUNDLE", "MANIFEST", "--device", "cuda:99"], "cuda:99"),
])
def test_a_mistake_is_one_line(case, tmp_path, capsys, argv, message):
    known = {"MANIFEST": str(case[1]), "BUNDLE": str(case[2])}
    argv = [known.get(word, word) for word in argv]
    assert main(["evaluate", *argv, "--out", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert message in lines[-1] and "Traceback" not in "".join(lines)


def test_a_folder_that_cannot_be_written_shows_before_the_work(case, capsys, monkeypatch):
    monkeypatch.setattr("papez_lobes.evaluation.evaluate.evaluate", None)  # not to be called
    out = str(case[1] / "below a file")
    assert main(["evaluate", str(case[2]), str(case[1]), "--out", out]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_manifests_that_do_not_fit_the_model_are_refused(case, tmp_path):
    separator = Separator.of(load_bundle(case[2]).mods)
    three = write_case(tmp_path, np.random.default_rng(0).normal(0, 0.1, (800, 3)))
    for manifest, rate, message in [
        (three, SAMPLE_RATE, "of 2 speakers"), (case[1], 16000, "8000 Hz, the model at 16000"),
    ]:
        with pytest.raises(UserError, match=message):
            evaluate(separator, manifest, 2, rate)
    bad = tmp_path / "bad.csv"
    whole, header = case[1].read_text(), "ID,mix_wav,s1_wav,s2_wav\n"
    write_audio(tmp_path / "wide.wav", np.ones(1600), 2 * SAMPLE_RATE)
    for text, message in [
        (header, "is empty, or no manifest"),
        (f"{whole}a,1,/a.wav\n", "line 6 lacks a value"),
        (f"{whole}a,1,/a.wav,/b.wav,/c.wav\n", "/a.wav: no such file"),
        (f"{whole}a,0.1" + f",{tmp_path}/wide.wav" * 3, "is sampled at 16000 Hz, not 8000"),
        (whole + whole.partition("\n")[2], "names an ID twice"),
    ]:
        bad.write_text(text)
        with pytest.raises(UserError, match=message):
            # the last file stops it before the first mixture
            evaluate(None, bad, 2, SAMPLE_RATE)
    bad.write_text(f"\ufeff{whole}", encoding="utf-8")  # as spreadsheets save it
    assert len(evaluate(separator, bad, 2, SAMPLE_RATE, measures=(), jobs=0).rows) == 4


def test_what_speechbrain_cannot_say_of_a_foreign_model_is_asked_for(case, tmp_path, capsys):
    folder = tmp_path / "foreign"
    folder.mkdir()
    text = "num_spks: 2\npretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer\n"
    parts = [f"    {part}: !new:torch.nn.Identity\n" for part in ("encoder", "masknet", "decoder")]
    (folder / "hyperparams.yaml").write_text(f"{text}modules:\n{''.join(parts)}")
    assert main(["evaluate", str(folder), str(case[1]), "--out", str(tmp_path / "out")]) == 2
    assert "has no 'sample_rate'; add it" in capsys.readouterr().err


def test_pesq_has_rates_of_its_own(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name != "pystoi")
    assert available(["sdr", "pesq"], 16000) == ("sdr", "pesq") and "stoi" not in available()
    with pytest.raises(UserError, match="8000 and 16000 Hz, the model of 44100"):
        available(["pesq"], 44100)
    with pytest.raises(UserError, match="stoi needs the package pystoi; pip install"):
        available(["stoi"])


def test_workers_compute_in_one_thread_and_end_in_one_line():
    before = dict(os.environ)
    with pytest.raises(UserError, match="a process that measures was ended"):
        with _workers(1) as pool:
            assert pool.submit(os.getenv, "OPENBLAS_NUM_THREADS").result() == "1"
            pool.submit(os._exit, 1).result()
    assert dict(os.environ) == before


@pytest.mark.parametrize("samples", [1, 300])
def test_the_shortest_have_a_page_too(case, tmp_path, samples):
    sources = np.random.default_rng(0).normal(0, 0.1, (samples, 2)).astype(np.float32)
    manifest, out = write_case(tmp_path, sources), tmp_path / "out"
    argv = ["evaluate", str(case[2]), str(manifest), "--measures", "--out", str(out)]
    assert main(argv) == 0
    row, _ = csv.DictReader((out / "results.csv").open())
    assert np.isfinite(float(row["si_snr"])) and float(row["mean_depth"]) >= 1
    assert (out / "worst/m.png").read_bytes().startswith(b"\x89PNG")


def test_a_distribution_is_drawn_of_what_is_defined():
    row = {"snt_id": "a", "si_snr": 9.0, "si_snr_i": 8.0, "si_snr_s1": 9.0, "si_snr_i_s1": 8.0}
    undefined = dict.fromkeys(row, np.nan)
    rows = [row, undefined, row | {"alone": 1, "si_snr_i": -90.0}, undefined | {"failed": 1}]
    for shown in (rows, rows[3:]):
        assert draw_distribution(shown).startswith(b"\x89PNG")


@pytest.mark.usefixtures("in_one_process", "blank_pictures")
def test_a_silent_source_is_named_on_the_page_and_no_id_leads_out_of_the_folder(case, tmp_path):
    sources = np.random.default_rng(0).normal(0, 0.1, (4000, 2)).astype(np.float32)
    sources[:, 1] = 0
    manifest, out = write_case(tmp_path, sources), tmp_path / "out"
    manifest.write_text(manifest.read_text().replace("\nm,", "\n../../<b>,") + "".join(
        case[1].read_text().splitlines(keepends=True)[1:2]))
    measures = sorted({"sdr", "stoi"} & set(available()))  # STOI is an extra
    assert main(["evaluate", str(case[2]), str(manifest), "--measures", *measures, "--out",
                 str(out), "--jobs", "1"]) == 0
    summary = json.loads((out / "summary.json").read_text())
    means, silent = summary["results"]["all"], "../../<b>"
    assert means["silent"] == means["alone"] == [silent] and "sdr" not in means.get("undefined", {})
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert rows[0]["si_snr_s2"] == rows[0]["sdr_s2"] == "nan"  # the other source has its scores
    assert rows[0]["si_snr"] == rows[0]["si_snr_s1"] and rows[0]["sdr"] == rows[0]["sdr_s1"]
    assert np.isfinite(float(rows[0]["si_snr"])) and np.isfinite(float(rows[0]["sdr"]))
    assert means["si_snr"] == pytest.approx(np.mean([float(row["si_snr"]) for row in rows[:-1]]))
    # with one speaker alone there is nothing to improve
    assert means["si_snr_i"] == float(rows[-1]["si_snr_i"]) == float(rows[1]["si_snr_i"])
    page = (out / "evaluation.html").read_text()
    assert "A source is silent in 1 mixture(s)" in page and "<b>" not in page
    assert "One speaker alone is heard in 1 mixture(s)" in page
    assert "&lt;b&gt;: one speaker alone" in page
    assert {path.name for path in tmp_path.iterdir()} == {
        "mix.wav", "s1.wav", "s2.wav", "tt.csv", "out"}
    assert summary["dtype"] == "float32" and summary["device"] == "cpu" and summary["threads"]


@pytest.mark.usefixtures("in_one_process", "blank_pictures")
def test_a_mixture_of_silence_alone_is_not_defined(case, tmp_path):
    manifest, out = write_case(tmp_path, np.zeros((4000, 2), np.float32)), tmp_path / "out"
    argv = ["evaluate", str(case[2]), str(manifest), "--measures", "sdr", "--out", str(out)]
    assert main(argv) == 0
    means = json.loads((out / "summary.json").read_text())["results"]["all"]
    assert set(means["undefined"]) == {"si_snr", "si_snr_i", "sdr", "sdr_i"}
    page = (out / "evaluation.html").read_text()
    assert "SDR, dB is not defined for 1 mixture(s)" in page and "m: not defined" in page

"""Faults that people reported of other separation tools, tried on the evaluation."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
import torch
from mir_eval import separation as mir_eval_separation

from papez_lobes.cli.main import main
from papez_lobes.config.separator_files import build_modules
from papez_lobes.errors import UserError
from papez_lobes.evaluation.evaluate import evaluate
from papez_lobes.evaluation.reference_metrics import check_sdr, measure, sdr
from papez_lobes.inference.bundle import load_bundle
from papez_lobes.inference.compute_budget import set_mean_depth, set_real_time_factor
from papez_lobes.inference.shipped import HYPERPARAMS
from papez_lobes.separator import Separator
from tests.evaluation.cases import separator_of, write_case
from tests.tiny import separator_path, tiny_hparams, write_tiny_bundle
from tests.trees import SAMPLE_RATE
from tests.without_float64 import WithoutFloat64

pytestmark = pytest.mark.usefixtures("in_one_process", "blank_pictures")


def noise(samples=4000, speakers=2, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, (samples, speakers)).astype(np.float32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("a training") / "bundle")


@pytest.mark.parametrize("silent", [0, 2])
def test_a_silent_source_does_not_cost_the_others_their_sdr(silent):
    sources = noise(speakers=3).T
    estimates = sources + 0.1 * noise(speakers=3, seed=1).T
    sources[silent] = 0
    heard = [number for number in range(3) if number != silent]
    found = np.array(sdr(sources, estimates))
    assert np.isnan(found[silent])
    assert found[heard] == pytest.approx(sdr(sources[heard], estimates[heard]))
    improved = np.array(measure(estimates, sources, sources.sum(0), SAMPLE_RATE, ["sdr"])["sdr_i"])
    assert np.isnan(improved[silent]) and np.isfinite(improved[heard]).all()


def test_a_silent_estimate_does_not_cost_the_others_their_sdr():
    sources = noise().T
    estimates = sources + 0.1 * noise(seed=1).T
    whole = sdr(sources, estimates)
    for broken in (0, np.nan):
        estimates[0] = broken
        found = sdr(sources, estimates)
        assert np.isnan(found[0]) and found[1] == pytest.approx(whole[1])


def test_sdr_of_one_pair_after_the_other_is_that_of_all_sources_at_once():
    sources = noise(speakers=3).T
    estimates = sources + 0.5 * np.roll(sources, 1, axis=0) + 0.2 * noise(speakers=3, seed=1).T
    wanted = mir_eval_separation.bss_eval_sources(sources, estimates, compute_permutation=False)[0]
    assert sdr(sources, estimates) == pytest.approx(wanted, abs=1e-6)


def test_sdr_of_ten_speakers_takes_no_longer_than_ten_pairs(monkeypatch):
    """All at once, ten sources of 4 s took 40 s; with a search of permutations, for ever."""
    sizes, compute = [], mir_eval_separation.bss_eval_sources

    def recorded(sources, *arguments, **options):
        sizes.append(len(sources))
        return compute(sources, *arguments, **options)

    monkeypatch.setattr(mir_eval_separation, "bss_eval_sources", recorded)
    sources = noise(2000, speakers=10).T
    values = measure(sources, sources, sources.sum(0), SAMPLE_RATE, ["sdr"])
    assert sizes == [1] * 20 and np.isfinite(values["sdr_i"]).all()


@pytest.mark.parametrize("samples", [1, 2, 300])
def test_signals_too_short_for_an_sdr_have_none(samples):
    """With references that newer numpy makes of mir_eval's handler an AttributeError."""
    assert len(sdr(noise(samples).T, noise(samples, seed=1).T)) == 2


@pytest.mark.parametrize("broken", [
    lambda *arguments, **options: (_ for _ in ()).throw(AttributeError("no attribute 'linalg'")),
    lambda sources, *arguments, **options: (np.zeros(len(sources)), None, None, None),
    None,  # mir_eval 0.9 does not have it
], ids=["raises", "is wrong", "is missing"])
def test_a_broken_mir_eval_is_said_to_be_broken_when_an_evaluation_starts(
    tmp_path, monkeypatch, broken
):
    if broken is None:
        monkeypatch.delattr(mir_eval_separation, "bss_eval_sources")
    else:
        monkeypatch.setattr(mir_eval_separation, "bss_eval_sources", broken)
    check_sdr.cache_clear()
    manifest = write_case(tmp_path, noise())
    with pytest.raises(UserError, match=r"mir_eval is broken: an SDR of 20 dB is.*leave out"):
        evaluate(None, manifest, 2, SAMPLE_RATE)  # the model is not run
    monkeypatch.undo()
    check_sdr()  # and the one that is installed is whole


def elsewhere(separator):
    """The separator on a device without float64."""

    class Elsewhere(Separator):
        def forward(self, mixture, return_trace=False):
            mixture = mixture.as_subclass(WithoutFloat64)
            return super().forward(mixture, return_trace=return_trace)

    return Elsewhere(**separator.parts)


def test_an_evaluation_needs_no_float64_off_the_cpu(bundle, tmp_path):
    separator, manifest = Separator.of(load_bundle(bundle).mods), write_case(tmp_path, noise())
    with pytest.raises(TypeError, match="no float64"):
        torch.zeros(1).as_subclass(WithoutFloat64).double()
    here, there = (
        evaluate(model, manifest, 2, SAMPLE_RATE, examples=1)
        for model in (separator, elsewhere(separator))
    )
    for name in ("si_snr_i", "sdr", "mean_depth"):
        assert here.mean(name) == pytest.approx(there.mean(name), abs=1e-3)
    assert type(there.first[0].estimates) is np.ndarray


def test_the_search_of_a_budget_needs_no_float64_off_the_cpu(bundle):
    separator = elsewhere(Separator.of(load_bundle(bundle).mods))
    mixture = torch.from_numpy(noise(8000).sum(1, keepdims=True).T).as_subclass(WithoutFloat64)
    assert set_mean_depth(separator, mixture, 2.0).spread.mean == pytest.approx(2, abs=0.1)
    assert set_real_time_factor(separator, mixture, 100.0, SAMPLE_RATE).spread.mean > 0


@pytest.mark.parametrize("level", [1e-20, 1e-9, 1e9, 1e20, 1e25])
@pytest.mark.parametrize("what", ["estimates", "sources"])
def test_scores_of_finite_signals_are_finite_and_do_not_depend_on_the_level(
    tmp_path, level, what
):
    sources, error = noise(2000), 0.1 * noise(2000, seed=1)
    if what == "sources":
        sources, error = sources * np.float32(level), error * np.float32(level)
    estimates = torch.from_numpy(sources + error)
    scale = torch.tensor(level if what == "estimates" else 1.0)
    row, = evaluate(separator_of(estimates * scale), write_case(tmp_path, sources), 2, SAMPLE_RATE,
                    measures=()).rows
    assert all(np.isfinite(value) for name, value in row.items() if name != "snt_id")
    if 1e-10 < level:
        assert row["si_snr"] == pytest.approx(20, abs=1)


@pytest.mark.parametrize("level", [1e-20, 1e15])
def test_a_page_of_very_loud_and_very_quiet_mixtures(bundle, tmp_path, level):
    manifest = write_case(tmp_path, noise(2000) * np.float32(level))
    words = ["evaluate", str(bundle), str(manifest), "--out", str(tmp_path / "out")]
    assert main([*words, "--measures"]) == 0


def test_a_foreign_model_is_evaluated_where_symlinks_are_refused(bundle, tmp_path, monkeypatch):
    def refused(*arguments, **options):
        raise OSError(1314, "A required privilege is not held by the client")

    folder = tmp_path / "foreign"
    shutil.copytree(bundle, folder)
    text = (folder / HYPERPARAMS).read_text()  # no node of ours by its name
    (folder / HYPERPARAMS).write_text(re.sub(r"\bMaskNet\b", "Masks", text))
    monkeypatch.setattr("os.symlink", refused)
    monkeypatch.setattr("pathlib.Path.symlink_to", refused)
    manifest, before = write_case(tmp_path, noise()), sorted(folder.iterdir())
    argv = ["evaluate", str(folder), str(manifest), "--measures", "--out", str(tmp_path / "out")]
    assert main(argv) == 0
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("command", [["evaluate", "BUNDLE", "x.csv"], ["bench", "BUNDLE"]],
                         ids=lambda words: words[0])
def test_a_folder_of_a_training_that_is_given_as_a_bundle_names_the_bundle_beside_it(
    bundle, tmp_path, monkeypatch, capsys, command
):
    training, checkpoint = bundle.parent, bundle.parent / "save/CKPT+2026-01-01"
    checkpoint.mkdir(parents=True, exist_ok=True)
    (training / HYPERPARAMS).write_text("seed: 0\n")  # the experiment's
    monkeypatch.chdir(tmp_path)
    for folder in (training, training / "save", checkpoint):
        assert main([str(folder) if word == "BUNDLE" else word for word in command]) == 2
        assert f"name its bundle: {bundle}\n" in capsys.readouterr().err
        with pytest.raises(UserError, match=f"name its bundle: {bundle}"):
            load_bundle(folder)


@pytest.mark.parametrize("name", ["results/nowhere", "speechbrain/sepformer-wsj02mix", "nowhere"])
def test_a_wrong_relative_path_of_a_bundle_is_no_repository_of_a_hub(
    tmp_path, monkeypatch, capsys, name
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("socket.socket.connect", None)
    assert main(["evaluate", name, "x.csv"]) == 2
    line, = capsys.readouterr().err.splitlines()
    assert f"{name}: no such bundle, as there is no such folder" in line


@pytest.mark.parametrize("speakers", [1, 10])
def test_one_and_ten_speakers_have_a_csv_and_a_page_in_the_order_of_their_numbers(
    tmp_path, speakers
):
    folder = write_tiny_bundle(tmp_path / "model", num_spks=speakers)
    manifest, out = write_case(tmp_path, noise(1600, speakers)), tmp_path / "out"
    argv = ["evaluate", str(folder), str(manifest), "--out", str(out), "--measures"]
    assert main([*argv, "sdr"]) == 0
    row, average = csv.DictReader((out / "results.csv").open())
    numbers = [int(name.removeprefix("si_snr_i_s")) for name in row if "si_snr_i_s" in name]
    assert numbers == list(range(1, speakers + 1))
    for name in ("si_snr", "sdr"):
        assert all(np.isfinite(float(row[f"{name}_s{number}"])) for number in numbers)
    assert float(average["si_snr_i"]) == pytest.approx(float(row["si_snr_i"]))
    means = json.loads((out / "summary.json").read_text())["results"]["all"]
    assert means["si_snr_i"] == pytest.approx(float(row["si_snr_i"]))
    players = re.findall(r"<label>(\w+)<audio", (out / "evaluation.html").read_text())
    assert players == ["mix", *(f"s{n}{kind}" for n in numbers for kind in ("", "hat"))]


def test_a_sepformer_beyond_its_table_of_positions_is_one_line(tmp_path, capsys):
    """The table has 2500 positions of chunks: 312 s at the recipe's sizes, 5 s at these."""
    path = separator_path("sepformer")
    sizes = tiny_hparams(path, chunk_tokens=2, num_repeats=1, kernel_size=32)
    separator = Separator(**build_modules(path, sizes))
    for seconds, fits in ((4, True), (6, False)):
        manifest = write_case(tmp_path, noise(seconds * SAMPLE_RATE))
        if fits:
            assert evaluate(separator, manifest, 2, SAMPLE_RATE, measures=()).rows
            continue
        with pytest.raises(UserError, match=r"m \(6.0 s\): the model cannot separate it"):
            evaluate(separator, manifest, 2, SAMPLE_RATE, measures=())


@pytest.mark.parametrize("wrong", [
    torch.zeros(800), torch.zeros(1, 1, 800), torch.zeros(1, 800, dtype=torch.int16),
    np.zeros((1, 800), np.float32), torch.zeros(1, 0),
], ids=["[T]", "[1, 1, T]", "int16", "numpy", "empty"])
def test_a_separator_that_is_given_no_mixture_names_the_shape_that_it_takes(bundle, wrong):
    with pytest.raises(ValueError, match=r"\[B, T\]"):
        Separator.of(load_bundle(bundle).mods)(wrong)

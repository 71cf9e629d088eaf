"""Evaluations of models that fail, of models of others, and of recordings that are damaged."""

import csv
import json

import numpy as np
import pytest
import soundfile
import torch

from papez_lobes.cli.main import main
from papez_lobes.data.corpora.wsj0mix import prepare_wsj0mix
from papez_lobes.evaluation.averages import summarise, table
from papez_lobes.evaluation.evaluate import evaluate
from papez_lobes.inference.bundle import load_bundle
from papez_lobes.inference.shipped import HYPERPARAMS
from papez_lobes.separator import Separator
from tests.tiny import write_tiny_bundle
from tests.trees import SAMPLE_RATE, write_small_tree

pytestmark = pytest.mark.usefixtures("in_one_process", "blank_pictures")


@pytest.fixture
def case(tmp_path):
    """(manifest, bundle) of three mixtures and an untrained model."""
    tree = write_small_tree(tmp_path / "2speakers", counts=(1, 1, 3), seconds=(0.3, 0.5))
    manifest = prepare_wsj0mix(tree, tmp_path, 2, splits=("tt",))["tt"]
    return manifest, write_tiny_bundle(tmp_path / "model")


class FailsOnce(torch.nn.Module):
    """A mask network whose second estimate is NaN."""

    def __init__(self, masknet):
        super().__init__()
        self.masknet, self.calls = masknet, 0

    def forward(self, features):
        self.calls += 1
        masks = self.masknet(features)
        return masks * float("nan") if self.calls == 2 else masks


def test_a_model_that_fails_is_named_apart_from_what_is_not_defined(case):
    failing = Separator.of(load_bundle(case[1]).mods)
    failing.masknet = FailsOnce(failing.masknet)
    rows = evaluate(failing, case[0], 2, SAMPLE_RATE).rows
    assert [row.get("failed") for row in rows] == [None, 1, None]
    total = summarise(rows)["all"]
    assert total["failed"] == [rows[1]["snt_id"]] and "undefined" not in total
    for name in ("si_snr_i", "sdr_i", "rtf"):
        assert total[name] == pytest.approx((rows[0][name] + rows[2][name]) / 2)
    assert f"THE MODEL FAILED on 1 mixture(s) ({rows[1]['snt_id']})" in table({"all": total})
    assert "–" in table(summarise([rows[1]]))  # of one alone, too, there is a table


def test_its_csv_says_so_too_and_its_mean_leaves_it_out(case, tmp_path, monkeypatch, capsys):
    failing = Separator.of(load_bundle(case[1]).mods)
    failing.masknet = FailsOnce(failing.masknet)
    monkeypatch.setattr("papez_lobes.cli.evaluate.load_model",
                        lambda *arguments: (failing, 2, SAMPLE_RATE))
    out = tmp_path / "out"
    assert main(["evaluate", str(case[1]), str(case[0]), "--measures", "--out", str(out)]) == 0
    *rows, average = csv.DictReader((out / "results.csv").open())
    assert [row["failed"] for row in rows] == ["", "1", ""] and average["failed"] == ""
    kept = [float(row["rtf"]) for row in rows if not row["failed"]]
    assert float(average["rtf"]) == pytest.approx(np.mean(kept))
    assert "THE MODEL FAILED on 1" in capsys.readouterr().out
    assert "THE MODEL FAILED on 1" in (out / "evaluation.html").read_text()


def test_groups_may_have_any_name():
    rows = [{"snt_id": name, "si_snr_i": float(db)}
            for db, name in enumerate(("all_1", "other_1", "b_1", "B_1"))]
    groups = summarise(rows, "^([a-z]+)_")
    assert {name: group["si_snr_i"] for name, group in groups.items()} == {
        "all": 1.5, "'all'": 0.0, "'other'": 1.0, "b": 2.0, "other": 3.0}


def test_a_damaged_file_at_the_end_shows_before_the_work(case, capsys, monkeypatch):
    """Its header is whole."""
    last = list(csv.DictReader(case[0].open()))[-1]["s2_wav"]
    samples, rate = soundfile.read(last)
    samples[-1] = np.nan
    soundfile.write(last, samples, rate, "FLOAT")
    monkeypatch.setattr(Separator, "forward", None)  # not to be called
    assert main(["evaluate", str(case[1]), str(case[0]), "--out", str(case[0].parent / "x")]) == 2
    line, = capsys.readouterr().err.strip().splitlines()[-1:]
    assert last in line and "NaN" in line


def test_a_model_of_speechbrain_s_whose_files_are_named_as_ours(case, tmp_path):
    file = case[1] / HYPERPARAMS
    text = file.read_text()
    for node in ("Encoder", "MaskNet", "Decoder"):
        text = text.replace(f"\n{node}:", f"\nmy{node}:").replace(f"<{node}>", f"<my{node}>")
    results = []
    for number, content in enumerate((file.read_text(), text)):
        file.write_text(content)
        out = tmp_path / f"out {number}"
        assert main(["evaluate", str(case[1]), str(case[0]), "--measures", "--out", str(out)]) == 0
        results.append(json.loads((out / "summary.json").read_text())["results"]["all"]["si_snr"])
    assert results[0] == pytest.approx(results[1], abs=1e-5)


def test_a_model_without_a_mask_network(case, tmp_path, capsys):
    folder = tmp_path / "foreign"
    folder.mkdir()
    (folder / HYPERPARAMS).write_text(
        "num_spks: 2\nsample_rate: 8000\n"
        "pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer\n"
        "modules:\n    encoder: !new:torch.nn.Identity\n    decoder: !new:torch.nn.Identity\n")
    assert main(["evaluate", str(folder), str(case[0]), "--out", str(tmp_path / "out")]) == 2
    assert "have no 'masknet'" in capsys.readouterr().err

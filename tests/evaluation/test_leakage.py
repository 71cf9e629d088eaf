"""Leakage: its level where one speaker speaks alone, and where it is reported."""

import csv
import json

import numpy as np
import pytest
import torch

from papez_lobes.cli.main import main
from papez_lobes.evaluation.evaluate import evaluate
from papez_lobes.evaluation.leakage import FRAME_SECONDS, leakage
from papez_lobes.inference.bundle import load_bundle
from papez_lobes.separator import Separator
from tests.evaluation.cases import separator_of, write_case
from tests.tiny import write_tiny_bundle
from tests.trees import SAMPLE_RATE

FRAME = round(FRAME_SECONDS * SAMPLE_RATE)


def turns(frames=20, overlap=5):
    """Sources [T, 2] of noise: the first, both for some frames, then the second."""
    sources = np.random.default_rng(0).normal(0, 0.1, (2 * frames * FRAME, 2))
    sources[(frames + overlap) * FRAME :, 0] = 0
    sources[: (frames - overlap) * FRAME, 1] = 0
    return sources.astype(np.float32)


@pytest.mark.parametrize("level", [-10.0, -30.0])
def test_leakage_is_the_level_of_the_wrong_output_where_one_speaks_alone(level):
    sources = turns()
    leaked = sources + 10 ** (level / 20) * sources[:, ::-1]
    found = leakage(leaked, sources, sources.sum(axis=1), SAMPLE_RATE)
    assert found == pytest.approx(level, abs=0.01)
    # what is wrong in the overlap does not count, nor what is wrong in the right output
    both = sources.all(axis=1)
    leaked[both] = sources[both, ::-1]
    leaked[sources[:, 1] == 0, 0] *= 3
    assert leakage(leaked, sources, sources.sum(axis=1), SAMPLE_RATE) == pytest.approx(found)


def test_without_leakage_it_is_at_its_floor():
    sources = turns()
    assert leakage(sources, sources, sources.sum(axis=1), SAMPLE_RATE) == -100


def test_a_speaker_who_is_40_db_below_the_own_loudest_frame_counts_as_silent():
    sources = turns(overlap=20)  # both speak all the time
    assert np.isnan(leakage(sources, sources, sources.sum(axis=1), SAMPLE_RATE))
    sources[: 10 * FRAME, 1] *= 10 ** (-45 / 20)
    assert leakage(sources, sources, sources.sum(axis=1), SAMPLE_RATE) == pytest.approx(-45, abs=2)
    sources[: 10 * FRAME, 1] *= 10 ** (15 / 20)
    assert np.isnan(leakage(sources, sources, sources.sum(axis=1), SAMPLE_RATE))


@pytest.mark.parametrize("samples", [1, FRAME - 1, FRAME, FRAME + 1])
def test_the_shortest_have_leakage(samples):
    sources = np.stack([np.ones(samples), np.zeros(samples)], axis=1)
    estimates = np.stack([np.ones(samples), 0.1 * np.ones(samples)], axis=1)
    found = leakage(estimates, sources, sources.sum(axis=1), SAMPLE_RATE)
    assert found == pytest.approx(-20)


def test_one_output_cannot_leak():
    sources = np.ones((800, 1))
    assert np.isnan(leakage(sources, sources, sources[:, 0], SAMPLE_RATE))


@pytest.mark.usefixtures("in_one_process", "blank_pictures")
def test_leakage_is_in_the_csv_the_summary_and_the_page(tmp_path):
    bundle = write_tiny_bundle(tmp_path / "model")
    manifest, out = write_case(tmp_path, turns()), tmp_path / "out"
    for name in ("overlapped", "both"):  # a mixture in which nobody speaks alone
        (tmp_path / name).mkdir()
    full = write_case(tmp_path / "both", turns(overlap=20)).read_text().splitlines()[1]
    manifest.write_text(f"{manifest.read_text()}full{full[1:]}\n")
    argv = ["evaluate", str(bundle), str(manifest), "--measures", "--out", str(out)]
    assert main([*argv, "--group-by", "full"]) == 0
    first, second, average = csv.DictReader((out / "results.csv").open())
    assert -100 <= float(first["leakage"]) < 20 and second["leakage"] == ""
    assert average["leakage"] == first["leakage"]
    groups = json.loads((out / "summary.json").read_text())["results"]
    assert groups["all"]["leakage"] == groups["other"]["leakage"] == float(first["leakage"])
    assert "undefined" not in groups["all"]
    shown = f"{float(first['leakage']):.1f}"
    assert "leakage, dB" in (out / "summary.md").read_text()
    lines = {line.split("|")[1].strip(): line for line in (out / "summary.md").read_text()
             .splitlines() if line.startswith("|")}
    assert shown in lines["all"] and shown not in lines["full"] and "| – |" in lines["full"]
    page = (out / "evaluation.html").read_text()
    assert "<th>leakage, dB</th>" in page and f"<td>{shown}</td>" in page


@pytest.mark.usefixtures("in_one_process")
def test_leakage_where_nobody_speaks_alone_is_not_shown(tmp_path):
    sources = turns(overlap=20)
    row, = evaluate(separator_of(torch.from_numpy(sources)), write_case(tmp_path, sources), 2,
                    SAMPLE_RATE, measures=()).rows
    assert "leakage" not in row


@pytest.mark.usefixtures("in_one_process")
def test_one_speaker_alone_is_scored_by_the_own_output_and_what_leaks_into_the_other(tmp_path):
    sources = turns()
    sources[:, 1] = 0
    speech = sources[:, 0]
    noise = np.random.default_rng(1).normal(0, 0.01, sources.shape).astype(np.float32)
    separator = separator_of(torch.from_numpy(speech[:, None] * [0.1, 1.0] + noise).float())
    row, = evaluate(separator, write_case(tmp_path, sources), 2, SAMPLE_RATE).rows
    assert row["alone"] == row["silent"] == 1
    assert row["si_snr"] == row["si_snr_s1"] > 15 and row["sdr"] == row["sdr_s1"] > 15
    assert np.isfinite(row["si_snr_i"]) and np.isnan(row["si_snr_s2"])
    assert -45 < row["leakage"] < 0
    model = Separator.of(load_bundle(write_tiny_bundle(tmp_path / "model")).mods)
    result = evaluate(model, tmp_path / "tt.csv", 2, SAMPLE_RATE, measures=())
    assert all(np.isfinite(result.mean(name)) for name in ("si_snr", "si_snr_i", "leakage"))

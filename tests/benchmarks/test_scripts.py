"""The other scripts of benchmarks/, at tiny size."""

import json
import re
import shutil
import sys
import types
from functools import partialmethod

import numpy as np
import pytest
import torch

from benchmarks import mixing_speed, operators, robustness, score_against_latency
from papez_lobes.data.audio import write_audio
from papez_lobes.profiling import timing
from papez_lobes.profiling.models import ModelSpec, build_model
from tests.tiny import COARSE, ROOT, tiny_separator_file
from tests.trees import SAMPLE_RATE, voice


def test_mixing_on_the_fly_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(timing, "MIN_SECONDS", 0.001)
    monkeypatch.setattr(mixing_speed, "COUNT", 5)
    for speaker in range(2):
        samples = voice(speaker, 2.0, np.random.default_rng(speaker))
        write_audio(tmp_path / f"speech/{speaker}/a.wav", samples, SAMPLE_RATE)
    mixing_speed.main([str(tmp_path / "speech"), "--seconds", "0.5", "--rounds", "2"])
    assert "| speeds of 95 to 105 % | " in capsys.readouterr().out


def test_operators_are_profiled(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(operators, "SIDES", (64,))
    monkeypatch.setattr(operators.Timer, "blocked_autorange", partialmethod(
        operators.Timer.blocked_autorange, min_run_time=0.001))
    path = tiny_separator_file(tmp_path, **COARSE)
    operators.main([str(path), "--seconds", "0.5", "--mean-depth", "1.5"])
    printed = capsys.readouterr().out
    assert "small_papez, mean depth 1.5, 0.5 s, float32, threads 1: " in printed
    assert "Self CPU %" in printed and "aten::" in printed


def test_a_separator_that_does_nothing_gains_nothing_in_any_condition(
    tmp_path, monkeypatch, capsys
):
    for speaker in range(3):
        samples = voice(speaker, 6.0, np.random.default_rng(speaker))
        write_audio(tmp_path / f"speech/{speaker}/a.wav", samples, SAMPLE_RATE)
    nothing = types.SimpleNamespace(
        num_speakers=2, sample_rate=SAMPLE_RATE,
        separate_batch=lambda mixtures: np.stack([mixtures, mixtures], axis=-1))
    monkeypatch.setattr(robustness.papez_lobes, "load", lambda name, device: nothing)
    monkeypatch.setattr(robustness, "_rooms", lambda mixtures, rng: [np.eye(1, 80)[0]])
    sounds = tmp_path / "sounds"
    words = ["robustness.py", str(tmp_path / "speech"), "x", "--count", "2", "--sounds"]
    monkeypatch.setattr(sys, "argv", [*words, str(sounds)])
    robustness.main()
    rows = [row.split(" | ") for row in capsys.readouterr().out.splitlines()[2:]]
    assert [name.strip("| ") for name, _ in rows] == list(robustness.CONDITIONS)
    gained = [float(value.strip("| ")) for _, value in rows]
    assert gained.pop(5) == pytest.approx(0, abs=0.1)  # the voice is in both outputs
    assert np.allclose(gained, 0, atol=0.02)
    assert {len(list((sounds / kind).iterdir())) for kind in ("babble", "hum")} == {10}


def test_sounds_are_the_same_whichever_are_there_and_appear_whole(tmp_path, monkeypatch):
    for speaker in range(2):
        samples = voice(speaker, 2.0, np.random.default_rng(speaker))
        write_audio(tmp_path / f"speech/{speaker}/a.wav", samples, SAMPLE_RATE)
    write_audio(tmp_path / "speech/0/silent.wav", np.zeros(SAMPLE_RATE), SAMPLE_RATE)
    monkeypatch.setattr(robustness, "NOISES", 2)
    monkeypatch.setattr(robustness, "_rooms", lambda mixtures, rng: [rng.standard_normal(80)])
    mixtures = robustness.DynamicMixtures(
        tmp_path / "speech", tmp_path / "store", 2, SAMPLE_RATE, 1, 1.0)

    def make():
        robustness.make_sounds(mixtures, tmp_path / "sounds")
        return {path.relative_to(tmp_path).as_posix(): path.read_bytes()
                for path in (tmp_path / "sounds").rglob("*") if path.is_file()}

    made = make()
    assert len(made) == 5
    shutil.rmtree(tmp_path / "sounds/hum")
    assert make() == made
    shutil.rmtree(tmp_path / "sounds/babble")
    written = []

    def stop(*arguments):
        written.append(arguments)
        if len(written) == 2:
            raise KeyboardInterrupt
        write_audio(*arguments)

    monkeypatch.setattr(robustness, "write_audio", stop)
    with pytest.raises(KeyboardInterrupt):
        make()
    assert sorted(path.name for path in (tmp_path / "sounds").iterdir()) == ["hum", "rooms"]


def test_no_mixtures_to_score_robustness_on_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["robustness.py", str(tmp_path), "x", "--count", "0"])
    with pytest.raises(SystemExit):
        robustness.main()
    assert capsys.readouterr().err == "robustness.py: --count 0: it must be 1 or more\n"


def test_scores_are_drawn_against_latency(tmp_path, capsys):
    row = {"task": "separate", "model": "papez", "seconds": 4, "threads": 1, "dtype": "float32",
           "device": "cpu", "rtf": 0.1, "params": 1_000_000}
    results, scores = tmp_path / "bench.json", tmp_path / "scores.json"
    results.write_text(json.dumps([row, row | {"model": "without a score"}]))
    scores.write_text('{"papez": 12.3}')
    figure = tmp_path / "figure.png"
    score_against_latency.main([str(results), str(scores), str(figure)])
    assert figure.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit, match="2"):
        score_against_latency.main([str(results), str(scores), str(figure)])
    assert f"{figure}: exists" in capsys.readouterr().err
    figure.unlink()
    for wrong in ("/nowhere.json", str(results)):
        with pytest.raises(SystemExit, match="2"):
            score_against_latency.main([str(results), wrong, str(figure)])
        assert wrong in capsys.readouterr().err


def test_asteroids_models_where_it_is_installed(monkeypatch):
    """Against a stand-in with its interface, [B, T] -> [B, C, T]."""

    class ConvTasNet(torch.nn.Module):
        def __init__(self, n_src, sample_rate):
            super().__init__()
            self.gain = torch.nn.Parameter(torch.full((1, n_src, 1), 0.5))

        def forward(self, mixture):
            return mixture.unsqueeze(1) * self.gain

    asteroid = types.ModuleType("asteroid")
    asteroid.models = types.SimpleNamespace(ConvTasNet=ConvTasNet)
    monkeypatch.setitem(sys.modules, "asteroid", asteroid)
    spec = ModelSpec("ConvTasNet", "module", "benchmarks/asteroid_models.py:ConvTasNet")
    model = build_model(spec, "cpu")
    estimates, trace = model(torch.randn(1, 800))
    assert estimates.shape == (1, 800, 2) and trace is None
    assert model.params == 2


def test_the_authors_computation_runs_all_steps():
    spec = ModelSpec("AllSteps", "baseline", "benchmarks/authors_papez.py:AllSteps")
    model = build_model(spec, "cpu")
    with torch.no_grad():
        assert model(torch.randn(1, 800))[0].shape == (1, 800, 2)
    assert model.params == 1_473_795


@pytest.mark.parametrize("script", sorted(ROOT.glob("benchmarks/*.py")), ids=lambda path: path.name)
def test_scripts_that_write_a_file_refuse_one_that_exists(script):
    text = script.read_text(encoding="utf-8")
    if re.search(r'"--(json|markdown|figure)"', text):
        assert "refuse_existing(" in text or ": exists; name another" in text

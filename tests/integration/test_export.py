"""`papez export`, and its files run without torch, against torch."""

import numpy as np
import pytest
import soundfile
import torch

from benchmarks import onnx_quality, onnx_speed, onnx_start
from papez_lobes.cli.main import main
from papez_lobes.config.separator_files import build_modules
from papez_lobes.export.onnx_file import export_bundle, to_onnx
from papez_lobes.inference.bundle import load_bundle, write_bundle
from papez_lobes.runtime import OnnxSeparator
from papez_lobes.separator import Separator
from tests.onnx_models import run_without_torch
from tests.tiny import randomise_norms, separator_path, tiny_hparams
from tests.trees import voice

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytestmark = pytest.mark.slow
RATE = 8000
SECONDS = (1 / RATE, 0.001, 0.1, 1.0, 4.0, 15.0)
# Enough width for int8 to be measured; otherwise small
SIZES = {"bottleneck_dim": 64, "ffn_dim": 128, "num_heads": 4}


def bundle(folder, name="papez_small", **overrides):
    """A bundle of an untrained separator with few channels, and norms that are not trivial."""
    torch.manual_seed(0)
    path = separator_path(name)
    hparams = tiny_hparams(path, **overrides)
    modules = build_modules(path, hparams)
    for module in modules.values():
        randomise_norms(module)
    return write_bundle(folder, path, hparams, modules)


def mixture(seconds, seed=0):
    """Synthetic speech [T] of two voices."""
    rng = np.random.default_rng(seed)
    whole = voice(0, max(seconds, 0.5), rng) + voice(1, max(seconds, 0.5), rng)
    return whole[:round(seconds * RATE)].astype(np.float32)


def by_torch(model, samples):
    """Estimates [T, C] and depths [L]."""
    with torch.inference_mode():
        estimates, trace = Separator.of(model.mods)(
            torch.from_numpy(samples)[None], return_trace=True)
    return estimates[0].numpy(), None if trace is None else trace.depth[0].numpy()


def check_equal(folder, path, **budget):
    """Compare an ONNX file with its bundle: depths first, then estimates."""
    model, runner = load_bundle(folder, budget), OnnxSeparator(path, **budget)
    differing = tokens = 0
    for seconds in SECONDS:
        samples = mixture(seconds)
        wanted, depths = by_torch(model, samples)
        got, depth = runner.estimate(samples)
        assert got.shape == wanted.shape
        if depths is not None:
            differing += (depth != depths).sum()
            tokens += len(depths)
        if depths is None or np.array_equal(depth, depths):
            assert np.abs(got - wanted).max() <= 1e-4 * max(1, np.abs(wanted).max()), seconds
    assert differing <= tokens / 1000


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Folder of a bundle, and its ONNX file."""
    root = tmp_path_factory.mktemp("exported")
    folder = bundle(root / "mine", halting_bias=-1.0, num_steps=6, **SIZES)
    assert main(["export", str(folder), str(root / "mine.onnx")]) == 0
    return folder, root / "mine.onnx"


def test_pruned_and_at_full_depth_it_equals_torch(exported):
    check_equal(*exported)
    check_equal(*exported, halting_bias=-20.0)  # no token halts
    check_equal(*exported, max_depth=2)
    check_equal(*exported, halting_threshold=0.5)
    *_, depth = OnnxSeparator(exported[1]).estimate(mixture(1))
    assert 1 <= depth.min() < depth.max() <= 6


@pytest.mark.parametrize("name, overrides", (
    ("papez_small", {"num_spks": 1}),
    ("papez_small", {"num_spks": 3, "pruning": "soft"}),
    ("papez", {"num_spks": 3, "num_slots": 0}),
    ("papez_official", {}),
))
def test_variants_equal_torch(tmp_path, name, overrides):
    folder = bundle(tmp_path / "mine", name, **overrides)
    export_bundle(folder, tmp_path / "mine.onnx")
    check_equal(folder, tmp_path / "mine.onnx")


@pytest.mark.parametrize("name, overrides", (
    ("convtasnet", {}), ("dprnn", {}), ("resepformer", {}), ("skim", {}),
    ("sepformer", {"chunk_tokens": 20}),  # SpeechBrain's has positions for 2,500 segments
))
def test_other_separators_equal_torch(name, overrides):
    torch.manual_seed(0)
    path, rng = separator_path(name), np.random.default_rng(0)
    modules = build_modules(path, tiny_hparams(path, **overrides))
    separator = Separator.of(modules).eval()
    session = onnxruntime.InferenceSession(
        to_onnx(modules).SerializeToString(), providers=["CPUExecutionProvider"])
    for seconds in (1 / RATE, 0.001, 0.005, 0.1, 1.0, 4.0):
        # noise: untrained norms magnify the rounding of digital silence
        samples = rng.standard_normal((1, round(seconds * RATE))).astype(np.float32) * 0.1
        with torch.no_grad():
            wanted = separator(torch.from_numpy(samples)).numpy()
        [got] = session.run(None, {"mixture": samples})
        assert got.shape == wanted.shape
        assert np.abs(got - wanted).max() <= 1e-4, seconds


def test_the_file_is_complete(exported):
    folder, path = exported
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["sample_rate"] == "8000" and metadata["num_spks"] == "2"
    assert metadata["separator"] == (folder / "hyperparams.yaml").read_text(encoding="utf-8")
    assert {"papez_version", "torch_version", "opset", "licence", "weights"} <= set(metadata)
    stored = [tensor.name for tensor in model.graph.initializer]
    assert len(stored) == len(set(stored))
    shapes = [tuple(sorted(tensor.dims)) for tensor in model.graph.initializer]
    block = Separator.of(load_bundle(folder).mods).masknet.transformer.block
    for weight in (block.linear1.weight, block.attention.in_proj.weight):
        assert shapes.count(tuple(sorted(weight.shape))) == 1 + (weight is block.linear1.weight)


def test_smaller_weights(exported, tmp_path):
    folder, path = exported
    samples = mixture(4)
    wanted, _ = OnnxSeparator(path).estimate(samples)
    for weights, share, error in (("float16", 0.7, 0.01), ("int8", 0.6, 0.2)):
        size = export_bundle(folder, tmp_path / "small.onnx", weights=weights)
        assert size < share * path.stat().st_size
        got, _ = OnnxSeparator(tmp_path / "small.onnx").estimate(samples)
        assert np.sqrt(np.mean((got - wanted) ** 2) / np.mean(wanted**2)) < error


def test_it_runs_without_torch(exported, tmp_path):
    samples = mixture(1)
    soundfile.write(tmp_path / "mixture.wav", samples, RATE, subtype="FLOAT")
    done = run_without_torch("papez_lobes.runtime", exported[1], tmp_path / "mixture.wav", tmp_path)
    assert done.returncode == 0, done.stderr
    got = [soundfile.read(tmp_path / f"mixture_s{index}.wav")[0] for index in (1, 2)]
    wanted = OnnxSeparator(exported[1]).separate_batch(samples[None])[0].T
    assert np.allclose(got, wanted / max(1, np.abs(wanted).max()), atol=1e-3)


def test_the_benchmarks_measure_it(exported, tmp_path, monkeypatch, capfd):
    soundfile.write(tmp_path / "mixture.wav", mixture(1), RATE)
    monkeypatch.setattr(onnx_start, "RUNS", 1)
    onnx_start.main([str(exported[1]), str(tmp_path / "mixture.wav")])
    assert "s of CPU time" in capfd.readouterr().out
    onnx_speed.compare_depths(exported[1], 1.0)
    assert "| 2 | -30 | 2.00 |" in capfd.readouterr().out
    onnx_quality.compare_with_torch(str(exported[0]), exported[1], mixture(1), [0.25])
    assert "| full | 0.25 | 4 | 0 of " in capfd.readouterr().out
    for name in ("mix", "s1", "s2"):
        soundfile.write(tmp_path / f"{name}.wav", mixture(1, len(name)), RATE)
    paths = [tmp_path / f"{name}.wav" for name in ("mix", "s1", "s2")]
    onnx_quality.compare_weights(
        str(exported[0]), {"mine float32": exported[1]}, [("first", paths)])
    assert "| float32 | 0." in capfd.readouterr().out


def test_a_missing_bundle_is_told_in_one_line(tmp_path, capsys):
    assert main(["export", str(tmp_path / "none"), str(tmp_path / "none.onnx")]) == 2
    assert capsys.readouterr().err.count("\n") == 1

"""The runner, on a small file that is made here."""

import json
import os

import numpy as np
import pytest

import papez_lobes
from papez_lobes.errors import UserError
from papez_lobes.inference.shipped import FILES, ONNX_FILE, fingerprint
from papez_lobes.runtime import OnnxSeparator
from papez_lobes.runtime.separator import default_threads
from tests.onnx_models import METADATA, run_without_torch, write_model

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "tiny.onnx")


def test_it_separates_a_batch_on_the_scale_of_the_mixture(model):
    separator = OnnxSeparator(model)
    mixtures = np.random.default_rng(0).standard_normal((3, 400)).astype(np.float32)
    estimates = separator.separate_batch(mixtures)
    assert estimates.shape == (3, 400, 2) and estimates.dtype == np.float32
    assert np.allclose(estimates.sum(axis=2), mixtures, atol=1e-3)
    alone = separator.separate_batch(mixtures[1:2])
    assert np.array_equal(alone[0], estimates[1])
    assert (separator.sample_rate, separator.num_speakers) == (8000, 2)
    assert separator.metadata["name"] == "tiny"


def test_the_budget_reaches_the_graph(model, tmp_path):
    mixture = np.ones(10, np.float32)
    assert OnnxSeparator(model).estimate(mixture)[1].tolist() == [4]
    assert OnnxSeparator(model, max_depth=2).estimate(mixture)[1].tolist() == [2]
    plain = write_model(tmp_path / "plain.onnx", recurrent=False)
    assert OnnxSeparator(plain).estimate(mixture)[1] is None
    for options, message in (
        ({"max_depth": 0}, "max_depth is 0: it must be at least 1"),
        ({"halting_threshold": 1.5}, r"halting_threshold is 1.5: it must be in \(0, 1\]"),
    ):
        with pytest.raises(UserError, match=message):
            OnnxSeparator(model, **options)
    known = write_model(tmp_path / "known.onnx", metadata=METADATA | {"separator": "num_steps: 4"})
    assert OnnxSeparator(known, max_depth=4).estimate(mixture)[1].tolist() == [4]
    with pytest.raises(UserError, match="max_depth is 5: it must be between 1 and num_steps, 4"):
        OnnxSeparator(known, max_depth=5)
    with pytest.raises(UserError, match="has no recurrence, so max_depth cannot be set"):
        OnnxSeparator(plain, max_depth=2)


def test_load_takes_onnx_files(model):
    separator = papez_lobes.load(model, overrides={"max_depth": 2}, num_speakers=2)
    assert separator.separate_with_depth(np.ones((2, 10), np.float32))[1].tolist() == [[2], [2]]
    for options, message in (
        ({"num_speakers": 3}, "separates 2 speakers, not 3"),
        ({"overrides": {"dropout": 0.1}}, "dropout is fixed in an ONNX file"),
        ({"mean_depth": 2.0}, "a mean depth needs PyTorch and a bundle"),
        ({"dtype": "int8"}, "an ONNX file runs on the CPU in its own precision"),
        ({"device": "cuda"}, "an ONNX file runs on the CPU in its own precision"),
    ):
        with pytest.raises(UserError, match=message):
            papez_lobes.load(model, **options)


def test_the_file_of_a_bundle_must_be_that_of_its_weights(tmp_path):
    for name in FILES:
        (tmp_path / name).write_text(name)
    metadata = METADATA | {"bundle_sha256": fingerprint(tmp_path)}
    write_model(tmp_path / ONNX_FILE, metadata=metadata)
    assert papez_lobes.load(tmp_path, engines=["onnx"]).engine == "onnx"
    (tmp_path / "masknet.ckpt").write_text("other weights")
    with pytest.raises(UserError, match=r"is not of the weights beside it; run: papez export"):
        papez_lobes.load(tmp_path, engines=["onnx"])


def test_threads_are_as_many_as_pytorch_would_use(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert default_threads() == 3
    for value in ("", "4,2"):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert default_threads() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS and Windows
    assert default_threads() == os.cpu_count()


def test_bad_files_are_told_in_one_line(model, tmp_path):
    content, bad = model.read_bytes(), tmp_path / "bad.onnx"
    for changed, message in (
        (b"", "not an ONNX file, or a damaged or truncated one"),
        (b"RIFF" * 100, "not an ONNX file"),
        (content[:len(content) // 2], "not an ONNX file, or a damaged or truncated one"),
    ):
        bad.write_bytes(changed)
        with pytest.raises(UserError, match=message) as raised:
            OnnxSeparator(bad)
        assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match=r"none\.onnx: no such file"):
        OnnxSeparator(tmp_path / "none.onnx")
    write_model(bad, metadata={})
    with pytest.raises(UserError, match="that `papez export` has not written"):
        OnnxSeparator(bad)
    write_model(bad, metadata=METADATA | {"papez_format": "9"})
    with pytest.raises(UserError, match=r"is of format 9.*install a newer papez-lobes"):
        OnnxSeparator(bad)


def test_a_newer_opset_names_onnxruntime(model):
    import onnx

    newer = onnx.load(model)
    newer.opset_import[0].version = 99
    onnx.save(newer, model)
    with pytest.raises(UserError, match=r"newer than onnxruntime \d.*install a newer one"):
        OnnxSeparator(model)


def test_the_command_needs_no_torch(model, tmp_path):
    import soundfile

    samples = np.random.default_rng(0).standard_normal(4000) * 0.1
    soundfile.write(tmp_path / "mixture.wav", samples, 8000)
    done = run_without_torch(
        "papez_lobes.runtime", model, tmp_path / "mixture.wav", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    voices = [soundfile.read(tmp_path / f"out/mixture_s{index}.wav")[0] for index in (1, 2)]
    assert np.allclose(sum(voices), samples, atol=1e-3)


@pytest.mark.parametrize("words, count", (([], 2), (["--num-spks", "3"], 3)))
def test_bundles_of_the_package_separate_without_torch(tmp_path, words, count):
    import soundfile

    samples = np.random.default_rng(0).standard_normal(4000) * 0.1
    soundfile.write(tmp_path / "mixture.wav", samples, 8000)
    done = run_without_torch("papez_lobes.cli.main", "separate", tmp_path / "mixture.wav", "--json",
                             "-o", tmp_path / "out", *words)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    assert line["engine"] == "onnx" and len(line["paths"]) == count
    assert all(soundfile.info(path).frames == 4000 for path in line["paths"])


def test_without_onnxruntime_one_line_says_so(model, tmp_path):
    done = run_without_torch("papez_lobes.runtime", model, "mixture.wav", tmp_path,
                             blocked=("onnxruntime",))
    assert done.returncode == 2
    assert done.stderr.endswith(
        "onnxruntime is not installed; run: pip install 'papez-lobes[onnx]'\n")
    assert done.stderr.count("\n") == 1

"""Bundles: what plain SpeechBrain loads from them, and what a mistake leaves behind."""

import copy
import logging
import os
import resource
import shutil
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from speechbrain.inference.separation import SepformerSeparation
from speechbrain.utils.fetching import LocalStrategy
from torch.nn.parallel import DistributedDataParallel

from papez_lobes.config.separator_files import build_modules, read_hyperparameters, separator_file
from papez_lobes.errors import UserError
from papez_lobes.inference.bundle import load_bundle, write_bundle
from papez_lobes.inference.shipped import FILES, ONNX_FILE
from papez_lobes.separator import Separator

PAPEZ = separator_file("papez")
# the bias keeps tokens running, so that every step that is allowed is made
SMALL = {
    "N_encoder_out": 16, "num_heads": 2, "ffn_dim": 32, "chunk_tokens": 8, "num_slots": 3,
    "num_steps": 5, "max_depth": 5, "halting_bias": -20.0,
}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """(modules, their bundle), of which each test gets a copy."""
    torch.manual_seed(1)
    modules = build_modules(PAPEZ, SMALL)
    return modules, write_bundle(tmp_path_factory.mktemp("b") / "bundle", PAPEZ, SMALL, modules)


@pytest.fixture
def modules(original):
    return copy.deepcopy(original[0])


@pytest.fixture
def bundle(tmp_path, original):
    return Path(shutil.copytree(original[1], tmp_path / "bundle"))


@pytest.fixture
def mixture():
    return torch.randn(2, 500, generator=torch.Generator().manual_seed(2))


def weights(modules):
    return {
        f"{part}.{key}": value
        for part in ("encoder", "masknet", "decoder")
        for key, value in modules[part].state_dict().items()
    }


def assert_same_weights(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def tree(folder):
    """Every path below a folder, and the bytes of every file."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(Path(folder).rglob("*"))
    }


# Round trips


def test_speechbrains_interface_gives_the_same_bits(bundle, modules, mixture):
    loaded = SepformerSeparation.from_hparams(source=str(bundle))
    assert_same_weights(modules, loaded.mods)
    assert (loaded.hparams.num_spks, loaded.hparams.sample_rate) == (2, 8000)
    ours = load_bundle(bundle)
    assert isinstance(ours, SepformerSeparation)
    assert not any(p.requires_grad for p in ours.parameters())
    assert torch.equal(ours.separate_batch(mixture), loaded.separate_batch(mixture))


@pytest.fixture
def process_group():
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_modules_that_were_trained_and_wrapped_are_written_unwrapped(tmp_path, modules, mixture):
    wrapped = {part: DistributedDataParallel(module) for part, module in modules.items()}
    parameters = [p for module in wrapped.values() for p in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    before = {key: value.clone() for key, value in weights(modules).items()}
    Separator(**wrapped)(mixture).square().mean().backward()
    optimizer.step()
    wrapped["encoder"] = SimpleNamespace(_orig_mod=wrapped["encoder"])  # as torch.compile's
    assert all(not torch.equal(before[key], value) for key, value in weights(modules).items())
    write_bundle(tmp_path / "bundle", PAPEZ, SMALL, wrapped)
    assert_same_weights(modules, load_bundle(tmp_path / "bundle").mods)


def test_what_was_trained_at_random_depths_may_run_shallower(tmp_path):
    hparams = SMALL | {"min_train_depth": 2}
    folder = write_bundle(tmp_path / "bundle", PAPEZ, hparams, build_modules(PAPEZ, hparams))
    model = load_bundle(folder, {"max_depth": 1})
    assert model.mods["masknet"].transformer.max_depth == 1


def test_views_are_saved_compact(tmp_path, modules):
    norm = modules["encoder"].norm
    norm.weight.data = torch.randn(1_000_000)[: norm.weight.numel()]
    write_bundle(tmp_path / "bundle", PAPEZ, SMALL, modules)
    assert (tmp_path / "bundle" / "encoder.ckpt").stat().st_size < 100_000


def test_writing_leaves_the_random_state_alone(tmp_path, modules):
    before = torch.random.get_rng_state()
    write_bundle(tmp_path / "bundle", PAPEZ, SMALL, modules)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_bundle_written_from_a_bundle_is_the_same(bundle, tmp_path, modules):
    again = write_bundle(tmp_path / "again", bundle / "hyperparams.yaml", SMALL, modules)
    assert (again / "hyperparams.yaml").read_text() == (bundle / "hyperparams.yaml").read_text()


def test_an_override_limits_the_loop(bundle, mixture):
    full = load_bundle(bundle)
    assert "max_depth: !ref <num_steps>" in (bundle / "hyperparams.yaml").read_text()
    for shallow in (
        SepformerSeparation.from_hparams(source=str(bundle), overrides={"max_depth": 2}),
        load_bundle(bundle, {"max_depth": 2}),
    ):
        assert not torch.equal(full.separate_batch(mixture), shallow.separate_batch(mixture))
        for separator, depth in ((full, 5), (shallow, 2)):
            features = separator.mods.encoder(mixture)
            _, trace = separator.mods.masknet(features, return_trace=True)
            assert len(trace.tokens_per_step) == depth


# Where it lies


def test_nothing_is_written_when_it_is_read(bundle, tmp_path, monkeypatch, mixture):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    before = tree(bundle)
    load_bundle(bundle).separate_batch(mixture)
    SepformerSeparation.from_hparams(source=bundle).separate_batch(mixture)
    assert tree(bundle) == before
    assert tree(elsewhere) == {}


@pytest.mark.parametrize("source", ["bundle", "./bundle/", Path("bundle")])
def test_relative_sources_are_loaded(bundle, tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    load_bundle(source)
    SepformerSeparation.from_hparams(source=source)
    assert os.listdir(tmp_path) == ["bundle"]


@pytest.mark.parametrize("strategy", [LocalStrategy.COPY, LocalStrategy.NO_LINK])
def test_it_loads_without_symbolic_links(bundle, tmp_path, monkeypatch, strategy):
    monkeypatch.delattr(Path, "symlink_to")  # Windows, mostly
    SepformerSeparation.from_hparams(
        source=str(bundle), savedir=tmp_path / "copy", local_strategy=strategy
    )


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_read_only_bundle_is_loaded(bundle):
    writable = stat.S_IMODE(bundle.stat().st_mode)
    bundle.chmod(0o500)
    try:
        load_bundle(bundle)
        SepformerSeparation.from_hparams(source=str(bundle))
    finally:
        bundle.chmod(writable)


def test_loading_is_quiet(bundle, capfd, caplog):
    with caplog.at_level(logging.WARNING):
        load_bundle(bundle)
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


# Mistakes


@pytest.mark.parametrize("hparams, message", [
    ({"num_slot": 3}, "no option 'num_slot'; did you mean 'num_slots'?"),
    ({"Encoder": 3}, "no option 'Encoder'"),
    ({"dropout": torch.tensor(0.1)}, "dropout is tensor"),
])
def test_wrong_hyperparameters_are_refused(tmp_path, modules, hparams, message):
    with pytest.raises(UserError) as error:
        write_bundle(tmp_path / "out", PAPEZ, hparams, modules)
    assert message in str(error.value)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("text, message", [
    ("a: 1\n", "'num_spks' is missing"),
    ("- 1\n", "holds no keys"),
    ("a: [1\n", "not valid YAML"),
    (None, "no such file"),
])
def test_a_wrong_separator_file_is_refused(tmp_path, modules, text, message):
    file = tmp_path / "x.yaml"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        write_bundle(tmp_path / "out", file, {}, modules)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", FILES)
def test_half_a_bundle_is_refused(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(UserError, match=f"incomplete one: {name} is missing"):
        load_bundle(bundle)


def test_a_missing_bundle_is_not_asked_of_a_server(tmp_path, monkeypatch):
    def unreachable(*args, **kwargs):
        raise AssertionError("went online")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    with pytest.raises(UserError, match="no such bundle"):
        load_bundle("speechbrain/sepformer-wsj02mix")


@pytest.mark.parametrize("damage, message", [
    (lambda data: data[: len(data) // 2], "damaged or cut short"),
    (lambda data: b"", "the file is empty"),
    (lambda data: b"RIFF" + bytes(99), "not a torch checkpoint"),
])
def test_damaged_weights_are_named(bundle, damage, message):
    path = bundle / "masknet.ckpt"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError) as error:
        load_bundle(bundle)
    assert str(path) in str(error.value) and message in str(error.value)


def test_weights_of_another_model_are_refused(bundle):
    (bundle / "decoder.ckpt").write_bytes((bundle / "encoder.ckpt").read_bytes())
    with pytest.raises(UserError, match=r"decoder\.ckpt: does not fit .*deconv\.weight is missing"):
        load_bundle(bundle)


@pytest.mark.parametrize("overrides, message", [
    ({"max_dept": 2}, "no option 'max_dept'; did you mean 'max_depth'?"),
    ({"max_depth": 99}, "max_depth is 99: it must be between 1 and num_steps, 5"),
    ({"num_steps": 4}, "norm1.weight is [5, 16], expected [4, 16]"),
    ({"halting_threshold": "high"}, "hyperparams.yaml: "),
    ({"Block": {"dim": 3}}, "no option 'Block'"),
])
def test_wrong_overrides_are_refused(bundle, overrides, message):
    with pytest.raises(UserError) as error:
        load_bundle(bundle, overrides)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("device", ["nowhere", "cuda:99"])
def test_a_wrong_device_is_refused(bundle, device):
    with pytest.raises(UserError, match=f"device '{device}' cannot be used"):
        load_bundle(bundle, device=device)


def test_weights_that_do_not_fit_the_hyperparameters_are_refused(tmp_path, modules):
    with pytest.raises(UserError, match=r"masknet does not fit: .*norm1\.weight is \[5, 16\]"):
        write_bundle(tmp_path / "out", PAPEZ, {**SMALL, "num_steps": 6, "max_depth": 6}, modules)
    assert not any(tmp_path.iterdir())


def test_hyperparameters_that_nothing_can_be_built_from_are_refused(tmp_path, modules):
    with pytest.raises(UserError) as error:
        write_bundle(tmp_path / "out", PAPEZ, {**SMALL, "num_heads": 3}, modules)
    assert str(error.value).startswith(
        f"{PAPEZ}: with these hyperparameters nothing can be built: num_heads is 3: it must divide"
    )
    assert not any(tmp_path.iterdir())


# Whole or not at all


def test_it_replaces_a_bundle_and_keeps_its_other_files(bundle, modules):
    (bundle / "README.md").write_text("mine")
    (bundle / ONNX_FILE).write_text("of the old weights")
    (bundle / "examples").mkdir()
    (bundle / "examples" / "a.txt").write_text("a")
    with torch.no_grad():
        modules["encoder"].conv.bias += 1
    write_bundle(bundle, PAPEZ, SMALL, modules)
    assert_same_weights(modules, load_bundle(bundle).mods)
    assert (bundle / "README.md").read_text() == "mine"
    assert not (bundle / ONNX_FILE).exists()
    assert (bundle / "examples" / "a.txt").read_text() == "a"
    assert os.listdir(bundle.parent) == ["bundle"]


def test_it_fills_an_empty_folder_and_makes_parents(tmp_path, modules):
    (tmp_path / "empty").mkdir()
    write_bundle(tmp_path / "empty", PAPEZ, SMALL, modules)
    write_bundle(tmp_path / "a" / "b", PAPEZ, SMALL, modules)
    load_bundle(tmp_path / "empty")
    load_bundle(tmp_path / "a" / "b")


@pytest.mark.parametrize("name", ["notes.txt", "hyperparams.yaml"])
def test_it_refuses_to_replace_anything_else(tmp_path, modules, name):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / name).write_text("mine")
    for target in (folder, folder / name):
        with pytest.raises(UserError, match="exists and is not a bundle"):
            write_bundle(target, PAPEZ, SMALL, modules)
    assert tree(tmp_path) == {"mine": None, f"mine/{name}": b"mine"}


def test_failing_to_save_leaves_the_old_bundle(bundle, modules, monkeypatch):
    before, save = tree(bundle.parent), torch.save

    def fill_the_disk(state, path):
        if path.name == "masknet.ckpt":
            raise RuntimeError("the disk is full")
        save(state, path)

    monkeypatch.setattr(torch, "save", fill_the_disk)
    with pytest.raises(RuntimeError, match="the disk is full"):
        write_bundle(bundle, PAPEZ, SMALL, modules)
    assert tree(bundle.parent) == before


@pytest.mark.parametrize("size", [100, 4000])
def test_a_full_disk_is_one_line_and_leaves_the_old_bundle(bundle, modules, size):
    """torch.save has an error of its own, see the second size, which hyperparams.yaml has not."""
    before, limits = tree(bundle.parent), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        with pytest.raises(UserError, match=f"^{bundle}: cannot be written: [^\n]+$"):
            write_bundle(bundle, PAPEZ, SMALL, modules)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert tree(bundle.parent) == before


def test_failing_to_rename_brings_the_old_bundle_back(bundle, modules, monkeypatch):
    before, rename, targets = tree(bundle.parent), os.rename, []

    def fail_once(source, target):
        targets.append(target)
        if len(targets) == 2:  # the first takes the old bundle away
            raise PermissionError(13, "Permission denied")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail_once)
    with pytest.raises(UserError, match="cannot be written: Permission denied"):
        write_bundle(bundle, PAPEZ, SMALL, modules)
    assert targets[1:] == [bundle, bundle]
    assert tree(bundle.parent) == before


def test_a_bundle_of_a_newer_format_is_one_line(bundle):
    path = bundle / "hyperparams.yaml"
    text = path.read_text()
    assert "bundle_format: 1" in text and "bundle_format" not in read_hyperparameters(path)
    path.write_text(text.replace("bundle_format: 1", "bundle_format: 2"))
    with pytest.raises(UserError, match="is of bundle format 2, and this version reads up to 1"):
        load_bundle(bundle)

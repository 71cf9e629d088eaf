"""Bundles of strangers: nothing in them runs code, and all that are no attack load."""

import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.inference.separation import SepformerSeparation

from papez_lobes.config.separator_files import (
    FOR_SPEECHBRAIN,
    PARTS,
    build_modules,
    load_hparams,
    separator_file,
)
from papez_lobes.errors import UserError
from papez_lobes.inference.bundle import load_bundle, load_modules, write_bundle
from papez_lobes.inference.shipped import bundle_folder
from papez_lobes.inference.warm_start import start_from
from tests.tiny import ROOT, SEPARATORS, tiny_hparams, write_tiny_bundle

ABLATIONS = sorted((ROOT / "hparams/ablations").glob("*.yaml"))
SHIPPED = sorted(path.parent for path in (ROOT / "pretrained").glob("*/hyperparams.yaml"))
EARLIER = sorted((ROOT / "tests/fixtures/a1a0150").glob("*/bundle"))
# A file that tells that code ran, FILE below. Each attack replaces `Memory` or is added.
CODE = "open('FILE', 'w').write('')"
ATTACKS = {
    "a function": "x: !apply:os.system [touch FILE]",
    "a function of the file's own values": "x: !applyref:os.system [touch FILE]",
    "a function's name": "x: !name:os.system",
    "a function's name with arguments": "x: !name:os.system [touch FILE]",
    "a module": "x: !module:os",
    "another file": "x: !include:attack.yaml",
    "a process": "x: !new:subprocess.Popen [[touch, FILE]]",
    "a process below": "x: {y: [1, !new:subprocess.Popen [[touch, FILE]]]}",
    "a process as a key": "x: {? !new:subprocess.Popen [[touch, FILE]] : 1}",
    "a class of ours that writes": "x: !new:papez_lobes.training.logs.PlainLogger [FILE]",
    "a function of a lobe": "x: !apply:papez_lobes.lengths.to_mask [1, 2]",
    "what a lobe imports": "x: !new:papez_lobes.masknet.torch.nn.Linear [1, 2]",
    "a lobe that fetches": "x: !new:speechbrain.lobes.models.wav2vec.EncoderWrapper [1]",
    "a class of torch that is no module": "x: !new:torch.nn.Parameter",
    "a module of torch that runs on others": "x: !new:torch.nn.DataParallel [1]",
    "a class that does not exist": "x: !new:nowhere.Nothing",
    "Python's tag": f'x: !!python/object/apply:builtins.exec ["{CODE}"]',
    "Python's tag, written out": f'x: !<tag:yaml.org,2002:python/object/apply:exec> ["{CODE}"]',
    "Python's tag in a tuple": f'x: (!!python/object/apply:builtins.exec ["{CODE}"])',
    "Python's tag in a tuple with a tag": f"x: !tuple '(!!python/object/apply:exec [\"{CODE}\"])'",
    "an alias": "a: &a !apply:os.system [touch FILE]\nx: *a",
    "an alias of what is allowed": "a: &a [1]\nx: *a",
    "aliases of aliases": "a: &a [1]\n" + "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
        for old, new in zip("abcdefgh", "bcdefghi")),
    "a merge": "a: {<<: !apply:os.system [touch FILE]}",
    "a reference to an attribute": "x: !ref <Encoder.__class__>",
    "a copy of an attribute": "x: !copy <a>\na: !apply:os.system [touch FILE]",
    "a tag by a directive": "x: !e!ref:os.system [touch FILE]",
    "a pretrainer that fetches": "x: !new:speechbrain.utils.parameter_transfer.Pretrainer\n"
                                 "    paths: {encoder: 'https://example.org/encoder.ckpt'}",
    "a pretrainer with hooks": "x: !new:speechbrain.utils.parameter_transfer.Pretrainer\n"
                               "    custom_hooks: {encoder: 1}",
    "a pretrainer that makes a folder": "x: !new:speechbrain.utils.parameter_transfer.Pretrainer "
                                        "[FILE]",
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("written") / "bundle")


@pytest.fixture
def bundle(tmp_path, written):
    return Path(shutil.copytree(written, tmp_path / "bundle"))


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_bundle_that_could_run_code_is_refused(bundle, tmp_path, attack):
    target, path = tmp_path / "ran", bundle / "hyperparams.yaml"
    (bundle / "attack.yaml").write_text(f"x: !apply:os.system [touch {target}]\n")
    directive = "%TAG !e! !apply\n---\n" if "!e!" in attack else ""
    path.write_text(f"{directive}{path.read_text()}\n{attack.replace('FILE', str(target))}\n")
    for load in (load_bundle, load_modules, lambda folder: start_from(folder, {}, 2)):
        with pytest.raises(UserError) as error:
            load(bundle)
        message = str(error.value)
        assert message.startswith(f"{path}: ") and "\n" not in message
    assert not target.exists()


@pytest.mark.parametrize("text", [
    "a: '!!python/object/apply:os.system [touch FILE]'\nx: !tuple '(<a>)'\ny: !ref (<a>, 1)",
    "x: '!apply:os.system [touch FILE]'\ny: !ref <x>", "x: &a [*a]",
])
def test_what_is_text_stays_text(bundle, tmp_path, text):
    path, target = bundle / "hyperparams.yaml", tmp_path / "ran"
    path.write_text(f"{path.read_text()}\n{text.replace('FILE', str(target))}\n")
    load_modules(bundle)
    assert not target.exists()


@pytest.mark.parametrize("attack, message", [
    ("!apply:os.system [ls]", "Memory is '!apply:os.system'"),
    ("{a: [1, !new:os.DirEntry [1]]}", "Memory.a.1 is '!new:os.DirEntry'"),
])
def test_the_message_names_the_node_and_the_option(bundle, attack, message):
    path = bundle / "hyperparams.yaml"
    before, _, after = path.read_text().partition("Memory: ")
    path.write_text(f"{before}Memory: {attack}\n\nBlock{after.partition('Block')[2]}")
    with pytest.raises(UserError) as error:
        load_bundle(bundle)
    assert str(error.value) == (
        f"{path}: {message}, which could run code; if you trust its author, load it with "
        "trust=True (--trust)"
    )


def test_what_is_trusted_may_build_anything(bundle):
    path = bundle / "hyperparams.yaml"
    path.write_text(f"{path.read_text()}\nown: !apply:sorted [[2, 1]]\n")
    with pytest.raises(UserError, match="own is '!apply:sorted'"):
        load_bundle(bundle)
    assert load_modules(bundle, trust=True)[1]["own"] == [1, 2]
    assert load_bundle(bundle, trust=True).hparams.own == [1, 2]


class Attack:
    """Runs code when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("save", [
    lambda attack, path: torch.save({"conv.weight": attack}, path),
    lambda attack, path: path.write_bytes(pickle.dumps(attack)),
    lambda attack, path: torch.save(attack, path, _use_new_zipfile_serialization=False),
], ids=["in a state dict", "plain", "torch's old format"])
def test_a_pickle_among_the_weights_does_not_run(bundle, tmp_path, save):
    target, path = tmp_path / "ran", bundle / "encoder.ckpt"
    save(Attack(target), path)
    for load in (load_bundle, lambda folder: load_bundle(folder, trust=True)):
        with pytest.raises(UserError) as error:
            load(bundle)
        assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
    assert not target.exists()


def test_links_lead_nowhere(bundle, tmp_path):
    """What a link leads to is read as weights or YAML, and is never written to."""
    outside, target = tmp_path / "outside.ckpt", tmp_path / "ran"
    outside.write_bytes(pickle.dumps(Attack(target)))
    before, path = outside.read_bytes(), bundle / "masknet.ckpt"
    path.unlink()
    for leads_to in (outside, Path("/dev/zero"), tmp_path / "nowhere", tmp_path):
        path.symlink_to(leads_to)
        with pytest.raises(UserError):
            load_bundle(bundle)
        path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="incomplete one"):
        load_bundle(bundle)
    path.unlink()
    path.symlink_to(outside)
    hparams = tiny_hparams(separator_file("papez_small"))
    write_bundle(bundle, separator_file("papez_small"), hparams,
                 build_modules(separator_file("papez_small"), hparams))
    assert outside.read_bytes() == before and not path.is_symlink() and not target.exists()


def test_what_speechbrain_has_linked_still_loads(bundle, tmp_path):
    SepformerSeparation.from_hparams(source=str(bundle), savedir=str(tmp_path / "links"))
    assert (tmp_path / "links/encoder.ckpt").is_symlink()
    load_bundle(tmp_path / "links")


@pytest.mark.parametrize("path", [*SEPARATORS, *ABLATIONS], ids=lambda path: path.stem)
def test_bundles_of_all_separators_load_and_are_what_hyperpyyaml_builds(path, tmp_path):
    hparams = tiny_hparams(path)
    torch.manual_seed(0)
    modules = build_modules(path, hparams)
    write_bundle(tmp_path / "bundle", path, hparams, modules)
    loaded, _ = load_modules(tmp_path / "bundle")
    values = load_hparams(tmp_path / "bundle/hyperparams.yaml")
    torch.manual_seed(0)
    with open(tmp_path / "bundle/hyperparams.yaml") as stream:
        expected = load_hyperpyyaml(stream)
    for part, node in PARTS.items():
        wanted = expected[node].state_dict()
        for found in (modules[part].state_dict(), loaded[part].state_dict()):
            assert found.keys() == wanted.keys()
            assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert values.keys() == expected.keys() - FOR_SPEECHBRAIN
    for key in values:
        assert type(values[key]) is type(expected[key])
        assert values[key] == expected[key] or isinstance(values[key], torch.nn.Module)


def test_values_are_those_that_hyperpyyaml_reads(tmp_path):
    path = tmp_path / "values.yaml"
    path.write_text(separator_file("papez_small").read_text() + """
a: 1e-3
b: [1, 2.5, text, 'no', null, True, 0x10, !ref <a>]
c: (0.9, 2, text)
d: {x: !ref <Encoder>, y: [!ref "<d2[z]>"]}
d2:
    z: !new:torch.nn.Sequential
        - !new:torch.nn.ReLU
        - !new:torch.nn.PReLU [3]
e: !ref <a> * 2
f: !ref out/<a>
g: !new:torch.nn.Tanh
__removed: 1
""")
    got = load_hparams(path)
    with open(path) as stream:
        wanted = load_hyperpyyaml(stream)
    assert got.keys() == wanted.keys()
    for key in "abcefg":
        assert repr(got[key]) == repr(wanted[key]), key
    for values in (got, wanted):
        assert values["d"]["x"] is values["Encoder"]
        assert values["d"]["y"][0] is values["d2"]["z"]
        assert repr(values["d2"]["z"]) == repr(wanted["d2"]["z"])


@pytest.mark.parametrize("folder", [*SHIPPED, *EARLIER], ids=lambda path: path.parts[-2])
def test_shipped_and_earlier_bundles_load(folder, tmp_path):
    load_modules(folder)
    copied = shutil.copytree(folder, tmp_path / "copied")
    assert load_bundle(bundle_folder(copied)).mods


def test_what_speechbrain_trains_with_its_own_recipe_loads(tmp_path):
    """A file as those of SpeechBrain's published SepFormers."""
    file = tmp_path / "sepformer.yaml"
    text = separator_file("sepformer").read_text()
    text = text.replace("papez_lobes.speechbrain_fixes", "speechbrain.lobes.models.dual_path")
    file.write_text(text.partition("\nSeparator:")[0] + "\nact: !new:torch.nn.ReLU\n")
    hparams = tiny_hparams(separator_file("sepformer"))
    write_bundle(tmp_path / "bundle", file, hparams, build_modules(file, hparams))
    load_bundle(tmp_path / "bundle")

"""The wheel: built, installed outside the checkout, and used as a stranger would use it."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

import papez_lobes
from papez_lobes.data.audio import write_audio
from tests.trees import SAMPLE_RATE, voice

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SOURCES = (
    "LICENSE", "README.md", "hparams", "papez_lobes", "pretrained", "pyproject.toml",
)
CARD_LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")


def run(*words, **options):
    """Run a command; return what it prints."""
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=600, **options)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def copy(source, target):
    """Copy a file, or a folder without what runs have left in it."""
    if source.is_file():
        shutil.copy(source, target)
    else:
        left = shutil.ignore_patterns("__pycache__", "results")
        shutil.copytree(source, target, ignore=left)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy: setuptools leaves its own files beside the sources."""
    root = tmp_path_factory.mktemp("build")
    for name in SOURCES:
        copy(ROOT / name, root / name)
    run(sys.executable, "-m", "pip", "wheel", root, "--no-deps", "--no-build-isolation",
        "--wheel-dir", root / "dist")
    return next((root / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """The folder of programs of a new environment, which holds the wheel.

    Its dependencies are those of the environment that runs the tests, without the checkout: a line
    of a .pth file adds a folder, but does not read the .pth files that are in it.
    """
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    programs = folder / "bin"
    run(sys.executable, "-m", "pip", "--python", programs / "python", "install", "--no-deps",
        "--no-index", wheel)
    packages = Path(run(programs / "python", "-c",
                        "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    found = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "dependencies.pth").write_text("\n".join(found))
    return programs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder that commands run in: of five speakers, and outside the checkout."""
    root, rng = tmp_path_factory.mktemp("a stranger's folder"), np.random.default_rng(0)
    for speaker in range(5):
        for index in range(4):
            path = root / f"speakers/voice{speaker}/u{index}.wav"
            write_audio(path, voice(speaker, 1.5, rng), SAMPLE_RATE)
    write_audio(root / "mixture.wav", voice(0, 2.0, rng) + voice(1, 2.0, rng), SAMPLE_RATE)
    return root


@pytest.fixture(scope="module")
def use(environment, folder):
    """A function that runs a program of the environment."""
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def run_program(name, *words, cwd=folder):
        return run(environment / name, *words, cwd=cwd, env=variables)

    return run_program


@pytest.fixture(scope="module")
def tree(use, folder):
    """A tree of mixtures that the installed command has made."""
    use("papez", "mix", "speakers", "mixed", "--count", "tr=4", "cv=2", "tt=2",
        "--seconds", "0.5", "1")
    return folder / "mixed/2speakers"


def test_the_wheel_is_what_is_imported(use, environment):
    file = Path(use("python", "-c", "import papez_lobes; print(papez_lobes.__file__)").strip())
    assert environment.parent in file.parents and ROOT not in file.parents
    assert use("papez", "--version") == f"papez {papez_lobes.__version__}\n"


def test_it_holds_every_file_of_the_package(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {f"papez_lobes/{path.relative_to(ROOT / 'papez_lobes').as_posix()}"
              for path in (ROOT / "papez_lobes").rglob("*")
              if path.is_file() and "__pycache__" not in path.parts}
    for name in ("hparams", "pretrained"):
        wanted |= {f"papez_lobes/{path.relative_to(ROOT).as_posix()}"
                   for path in (ROOT / name).rglob("*") if path.is_file()}
    assert wanted <= held
    assert not [name for name in held if name.split("/")[0] in ("tests", "recipes", "examples")]


def test_cards_refer_to_files_of_the_wheel(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    cards = sorted(tmp_path.glob("papez_lobes/pretrained/*/README.md"))
    assert cards
    for card in cards:
        text = card.read_text(encoding="utf-8")
        links = [link for link in CARD_LINK.findall(text) if "://" not in link]
        for link in links:
            assert (card.parent / link).is_file(), f"{card.parent.name}: {link}"


def test_it_lists_its_bundles(use):
    listed = use("papez", "list")
    for bundle in (ROOT / "pretrained").iterdir():
        assert f"| {bundle.name} " in listed


def test_it_separates(use, folder):
    use("papez", "separate", "mixture.wav", "--out", "separated")
    voices = [soundfile.read(folder / f"separated/mixture_s{number}.wav") for number in (1, 2)]
    for samples, rate in voices:
        assert rate == SAMPLE_RATE and len(samples) == 2 * SAMPLE_RATE and samples.any()


def test_it_mixes_and_evaluates(use, tree, folder):
    assert len(list((tree / "wav8k/min/tr/mix").iterdir())) == 4
    said = use("papez", "evaluate", "papez-small-8k", tree, "--out", "evaluated")
    assert "SI-SNR" in said
    assert (folder / "evaluated").is_dir()


def test_it_trains_from_a_copied_recipe(use, tree, folder):
    copy(ROOT / "recipes", folder / "recipes")
    use("python", "train.py", "hparams/papez_small.yaml", "--data_folder", tree,
        "--output_folder", folder / "trained", "--N_epochs", "1", "--num_steps", "2",
        "--bottleneck_dim", "16", "--num_heads", "2", "--ffn_dim", "16", "--num_workers", "0",
        "--device", "cpu", cwd=folder / "recipes/WSJ0Mix/separation")
    assert (folder / "trained/bundle/masknet.ckpt").is_file()
    use("papez", "separate", "mixture.wav", "--bundle", "trained/bundle", "--out", "by_mine")
    assert (folder / "by_mine/mixture_s2.wav").is_file()

"""The one training that the fast tests do: papez_small, and a file that its bundle separates."""

from papez_lobes.cli.main import main
from papez_lobes.data.audio import audio_info
from tests.recipe_runs import SIZES, log_of, train
from tests.trees import write_small_tree


def test_a_trained_papez_small_separates_a_file(tmp_path):
    tree, out = write_small_tree(tmp_path / "2speakers", counts=(4, 2, 2)), tmp_path / "out"
    width = {"bottleneck_dim": SIZES["N_encoder_out"], "N_encoder_out": None}
    train(tree, out, file="papez_small.yaml", N_epochs=1, save_audio=0, **width)
    assert [line["epoch"] for line in log_of(out) if "epoch" in line] == [1]
    mixture = tree / "wav8k/min/tt/mix/m00.wav"
    words = ["separate", str(mixture), "--bundle", str(out / "bundle"), "--out", str(tmp_path)]
    assert main(words) == 0
    for speaker in (1, 2):
        estimate = audio_info(tmp_path / f"m00_s{speaker}.wav")
        assert estimate.frames == audio_info(mixture).frames

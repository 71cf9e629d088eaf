import pytest
import torch

from papez_lobes.training.checkpoints import AtomicCheckpointer


class Dies:
    """A recoverable whose saving fails after it has written something, like a full disk."""

    alive = True


def save(thing, path):
    path.write_text("half of it")
    if not Dies.alive:
        raise OSError(28, "No space left on device")


def load(thing, path, end_of_epoch):
    assert path.read_text() == "half of it"


def test_a_save_that_is_cut_short_is_no_checkpoint(tmp_path, monkeypatch):
    model = torch.nn.Linear(2, 2)
    checkpointer = AtomicCheckpointer(
        tmp_path, {"dies": Dies(), "model": model},
        custom_save_hooks={"dies": save}, custom_load_hooks={"dies": load},
    )
    checkpointer.save_checkpoint(meta={"si_snr_i": 1.0})
    kept = model.weight.clone()
    torch.nn.init.zeros_(model.weight)
    monkeypatch.setattr(Dies, "alive", False)
    with pytest.raises(OSError, match="No space"):
        checkpointer.save_and_keep_only(meta={"si_snr_i": 2.0}, max_keys=["si_snr_i"])
    assert checkpointer.recover_if_possible().meta["si_snr_i"] == 1.0
    assert torch.equal(model.weight, kept)
    monkeypatch.setattr(Dies, "alive", True)
    saved = checkpointer.save_and_keep_only(meta={"si_snr_i": 3.0}, max_keys=["si_snr_i"])
    assert saved is None or saved.path.exists()
    assert [path.name.split("+")[0] for path in tmp_path.iterdir()] == ["CKPT"]
    assert checkpointer.recover_if_possible().meta["si_snr_i"] == 3.0


def test_names_and_files_are_those_of_the_folder_at_last(tmp_path):
    checkpointer = AtomicCheckpointer(tmp_path, {"model": torch.nn.Linear(2, 2)})
    saved = [checkpointer.save_checkpoint(), checkpointer.save_checkpoint(name="mine")]
    assert saved[1].path == tmp_path / "CKPT+mine"
    for checkpoint in saved:
        assert checkpoint in checkpointer.list_checkpoints()
        assert all(path.is_file() for path in checkpoint.paramfiles.values())

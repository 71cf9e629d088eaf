"""Checkpoints: whole or not there, and one that was damaged is passed over."""

import resource

import pytest
import torch

from papez_lobes.errors import UserError
from papez_lobes.training.checkpoints import AtomicCheckpointer, find_damage
from papez_lobes.training.epochs import TimedEpochCounter
from papez_lobes.training.logs import drop_epochs_after


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
    line = r"cannot be written \(No space left on device\); make room"
    with pytest.raises(UserError, match=line):
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


DAMAGES = {  # by file: what a power cut or a full disk leaves
    "CKPT.yaml": b"", "model.ckpt": b"", "sizes.json": b"", "counter.ckpt": b"",
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_training_goes_on_from_the_whole_one(
    tmp_path, caplog, name,
):
    model = torch.nn.Linear(2, 2)
    counter = TimedEpochCounter(3)
    checkpointer = AtomicCheckpointer(tmp_path, {"model": model, "counter": counter})
    whole = checkpointer.save_checkpoint(meta={"unixtime": 1.0}, name="first")
    damaged = checkpointer.save_checkpoint(meta={"unixtime": 2.0}, name="second").path
    (damaged / name).write_bytes(DAMAGES[name])
    found = checkpointer.recover_if_possible()
    if name == "sizes.json":  # only the list of sizes is lost: the rest is whole
        assert found.path == damaged
        return
    assert found.path == whole.path and checkpointer.recover_if_possible().path == whole.path
    lines = [record.getMessage() for record in caplog.records if str(damaged) in record.message]
    assert len(lines) == 1 and "is damaged" in lines[0] and name in lines[0]


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_a_file_that_was_cut_short_is_damage_with_and_without_a_list_of_sizes(tmp_path, keep):
    checkpointer = AtomicCheckpointer(tmp_path, {"model": torch.nn.Linear(2, 2)})
    folder = checkpointer.save_checkpoint().path
    assert find_damage(folder) is None
    weights = folder / "model.ckpt"
    weights.write_bytes(weights.read_bytes()[:keep])
    assert "model.ckpt" in find_damage(folder)
    (folder / "sizes.json").unlink()  # a checkpoint of an earlier version
    assert "model.ckpt" in find_damage(folder)


def test_what_is_wrong_with_the_model_is_not_blamed_on_the_disk(tmp_path, monkeypatch):
    checkpointer = AtomicCheckpointer(tmp_path, {"model": torch.nn.Linear(2, 2)})
    for text, kind in (("unexpected pos 64 vs 0", UserError), ("something else", RuntimeError)):
        def fail(*_, text=text, **__):
            raise RuntimeError(text)

        monkeypatch.setattr(torch, "save", fail)
        with pytest.raises(kind):
            checkpointer.save_checkpoint()
        assert checkpointer.find_checkpoint() is None


def test_keeping_a_checkpoint_takes_no_longer_the_more_there_were(tmp_path, monkeypatch):
    """SpeechBrain looks at all checkpoints twice for each call that there has been."""
    checkpointer = AtomicCheckpointer(tmp_path, {"model": torch.nn.Linear(2, 2)})
    looked = []
    look = AtomicCheckpointer.list_checkpoints
    monkeypatch.setattr(AtomicCheckpointer, "list_checkpoints",
                        lambda self: looked.append(1) or look(self))
    for _ in range(3):
        checkpointer.save_and_keep_only(meta={"score": 1.0}, max_keys=["score"])
    assert len(looked) == 3 * 4 and len(checkpointer.list_checkpoints()) == 1


def test_a_log_that_a_power_cut_has_damaged_is_still_corrected(tmp_path):
    log = tmp_path / "train_log.txt"
    log.write_bytes(b"epoch: 1, lr: 1\n\xff\x00\xfe\nepoch loaded: 1\nepoch: 2, lr: 1\n")
    drop_epochs_after(log, 1)
    assert log.read_bytes() == b"epoch: 1, lr: 1\n\xff\x00\xfe\nepoch loaded: 1\n"


@pytest.mark.parametrize("size", [100, 2000, 20_000])
def test_a_full_disk_is_one_line_wherever_it_fills_up(tmp_path, size):
    """torch.save has several errors of its own."""
    checkpointer = AtomicCheckpointer(tmp_path, {"model": torch.nn.Linear(100, 100)})
    kept = checkpointer.save_checkpoint()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        with pytest.raises(UserError, match=r"the checkpoint cannot be written .*; make room"):
            checkpointer.save_checkpoint()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [*tmp_path.iterdir()] == [kept.path]

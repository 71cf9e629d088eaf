"""The epoch counter that stops after a time."""

from speechbrain.utils.checkpoints import Checkpointer

from papez_lobes.training import epochs


def test_it_stops_with_the_epoch_that_exceeds_the_time_and_resumes_with_what_is_left(
    tmp_path, monkeypatch
):
    clock = [100.0]
    monkeypatch.setattr(epochs.time, "monotonic", lambda: clock[0])
    counter = epochs.TimedEpochCounter(100, minutes=1.0)
    checkpointer = Checkpointer(tmp_path, {"counter": counter})
    done = []
    for epoch in counter:
        clock[0] += 25
        done.append(epoch)
        checkpointer.save_checkpoint()
    assert done == [1, 2, 3]
    resumed = epochs.TimedEpochCounter(100, minutes=1.0)
    Checkpointer(tmp_path, {"counter": resumed}).recover_if_possible(
        ckpt_predicate=lambda c: "2" == (c.path / "counter.ckpt").read_text().split()[0]
    )
    clock[0] += 1e6  # the pause between the runs does not count
    assert resumed.seconds == 50
    done = []
    for epoch in resumed:
        clock[0] += 25
        done.append(epoch)
    assert done == [3]

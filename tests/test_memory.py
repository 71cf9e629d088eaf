"""Working memory: its slots, their tags, and how chunks' memories are merged."""

import pytest
import torch

from papez_lobes.memory import WorkingMemory, merge_memory


def test_slots_are_rows_of_an_identity_with_a_tag():
    joint = WorkingMemory(3, 5)(torch.full((2, 4, 5), 7.0))
    assert torch.equal(joint[1, :3, :5], torch.eye(3, 5))
    assert joint[..., 5].tolist() == [[1, 1, 1, 0, 0, 0, 0]] * 2
    assert torch.equal(joint[0, 3:, :5], torch.full((4, 5), 7.0))


def test_no_slots_leave_tagged_tokens():
    assert WorkingMemory(0, 5)(torch.ones(1, 2, 5)).shape == (1, 2, 6)


@pytest.mark.parametrize("num_slots", [-1, 6])
def test_more_slots_than_channels_are_refused(num_slots):
    with pytest.raises(ValueError, match=f"num_slots is {num_slots}"):
        WorkingMemory(num_slots, 5)


def test_merge_is_the_mean_over_the_chunks_that_count():
    written = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(merge_memory(written), written.mean(1))
    mask = torch.tensor([[True, False, True], [False, False, False]])
    merged = merge_memory(written, mask)
    torch.testing.assert_close(merged[0], (written[0, 0] + written[0, 2]) / 2)
    assert torch.equal(merged[1], torch.zeros(4, 5))

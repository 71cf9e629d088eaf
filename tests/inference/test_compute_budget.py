"""Setting a mean depth or a real-time factor."""

import pytest
import torch

from papez_lobes.errors import UserError
from papez_lobes.inference.compute_budget import set_mean_depth, set_real_time_factor
from papez_lobes.separator import Separator


@pytest.fixture
def speech():
    torch.manual_seed(3)
    return torch.randn(1, 2000).double()


def depth_of(separator, mixture):
    return separator(mixture, return_trace=True)[1].mean_depth.item()


@pytest.mark.parametrize("target", [1.0, 1.7, 2.5, 3.3, 4.0])
def test_a_mean_depth_is_reached_and_reported(tiny, speech, target):
    separator, _ = tiny()
    setting = set_mean_depth(separator, speech, target)
    assert setting.spread.mean == pytest.approx(target, abs=0.02)
    assert separator.masknet.transformer.halting.bias == setting.bias
    assert depth_of(separator, speech) == pytest.approx(setting.spread.mean)


@pytest.mark.parametrize("target", [0.5, 4.5])
def test_a_depth_that_cannot_be_reached_leaves_the_bias(tiny, speech, target):
    separator, _ = tiny(halting_bias=-1.25)
    with pytest.raises(UserError, match=f"mean depth of {target:g} cannot be reached"):
        set_mean_depth(separator, speech, target)
    assert separator.masknet.transformer.halting.bias == -1.25


def test_a_real_time_factor_is_kept_to_with_as_little_change_as_can_be(tiny, speech):
    separator, _ = tiny(halting_bias=-30.0)
    halting = separator.masknet.transformer.halting
    seconds = speech.numel() / 8000

    def measure():  # a clock that takes 0.1 of real time a step
        return 0.1 * seconds * depth_of(separator, speech)

    assert set_real_time_factor(separator, speech, 1.0, 8000, measure).bias == -30.0  # fast enough
    setting = set_real_time_factor(separator, speech, 0.25, 8000, measure)
    assert 2.4 <= setting.spread.mean <= 2.5
    assert setting.real_time_factor <= 0.25
    assert halting.bias == setting.bias > -30.0
    again = set_real_time_factor(separator, speech, 1.0, 8000, measure)
    assert again.spread.mean == setting.spread.mean  # never deeper than it was
    with pytest.raises(UserError, match="cannot be reached"):
        set_real_time_factor(separator, speech, 0.05, 8000, measure)
    assert halting.bias == setting.bias


def test_a_model_without_recurrence_is_refused(speech):
    separator = Separator(encoder=None, masknet=torch.nn.Linear(2, 2), decoder=None)
    with pytest.raises(UserError, match="Linear has no recurrence"):
        set_mean_depth(separator, speech, 2.0)

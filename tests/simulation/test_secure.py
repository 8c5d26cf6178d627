"""A simulation does not add reports up securely yet, and says so before anything is trained."""

import pytest
import torch
from torch import nn

from fedplan import simulate, training_plan
from fedplan.errors import ConfigError


def test_secure_aggregation_is_refused_with_what_to_do_instead():
    module, x, y = nn.Linear(3, 2), torch.randn(4, 3), torch.randn(4, 2)
    plan = training_plan(module, nn.functional.mse_loss, example=(x, y))
    server = {"max_weight": 10.0, "secure_aggregation": {"workers": 3, "clip": 1.0}}
    with pytest.raises(ConfigError, match="'secure_aggregation' is not simulated yet: leave it out here"):
        simulate(
            module,
            {"training_plan": plan},
            [(x, y)] * 3,
            {"name": "m", "version": "1", "batch_size": 4, "lr": 0.1},
            server,
            rounds=1,
        )

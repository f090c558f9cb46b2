"""Whether two models are the same, by the values of their weights."""

import torch
from torch import nn

from ip2p.models.hashes import hash_weights


def test_weights_are_known_by_their_values() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    before = hash_weights(network)
    assert hash_weights(network.to(torch.float32)) == before
    with torch.no_grad():
        network[0].bias[1] += 1e-6
    assert hash_weights(network) != before

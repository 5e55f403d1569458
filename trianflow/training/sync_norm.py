"""Batch normalisation over the batch of all processes, so that their number does not change what is learned."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; as each of them uses it, so is its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> Tensor:
        return _SumOverProcesses.forward(None, grad[0].contiguous())


class SyncedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation whose statistics in training are those of all processes; on any device.

    torch's own SyncBatchNorm needs CUDA. Processes must have batches of one size.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `(B, C, H, W)`."""
        if not self.training:
            return super().forward(x)
        wide = x.float()
        count = wide.numel() / wide.shape[1]
        sums = _SumOverProcesses.apply(torch.cat([wide.sum((0, 2, 3)), wide.new_tensor([count])]))
        total = sums[-1].detach()
        mean = sums[:-1] / total
        # The mean goes first: the mean square less its square would leave no digits of a small variance.
        centred = wide - mean[:, None, None]
        variance = _SumOverProcesses.apply(centred.square().sum((0, 2, 3))) / total
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        with torch.no_grad():
            self.num_batches_tracked += 1
            rate = 0.1 if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, rate)
            self.running_var.lerp_(variance * total / (total - 1), rate)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def synchronize_norms(module: nn.Module) -> None:
    """Make all batch normalisation inside a module synchronised, in place; keys and values stay."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            synced = SyncedBatchNorm(child.num_features, child.eps, child.momentum)
            synced.load_state_dict(child.state_dict())
            setattr(module, name, synced.train(child.training).to(child.weight.device))
        else:
            synchronize_norms(child)

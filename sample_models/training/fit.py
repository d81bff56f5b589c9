"""The training loop, shared by all models."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]


def classifier_loss(model: nn.Module, image: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy of logits [b, 10] against labels [b]."""
    return nn.functional.cross_entropy(model(image), label)


def fit(
    model: nn.Module,
    epoch: Callable[[], Iterable[Batch]],
    steps_per_epoch: int,
    loss: Callable[..., Tensor],
    *,
    epochs: int,
    peak_rate: float,
) -> None:
    """Train in place with AdamW under a one-cycle rate, and leave the model in evaluation mode.

    `epoch()` gives the batches (inputs, targets) of one epoch, `loss(model, inputs, targets)` a scalar.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=peak_rate, total_steps=epochs * steps_per_epoch, pct_start=0.2
    )
    model.train()
    for number in range(1, epochs + 1):
        total = 0.0
        for image, target in epoch():
            optimizer.zero_grad()
            value = loss(model, image, target)
            value.backward()
            # Recurrent and attention layers meet a rare huge gradient while the rate is high.
            nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            optimizer.step()
            schedule.step()
            total += value.item()
        print(f"  epoch {number}/{epochs}: loss {total / steps_per_epoch:.4f}", flush=True)
    model.eval()

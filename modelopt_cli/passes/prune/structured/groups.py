"""Channels that may leave, in groups of interchangeable ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from modelopt_cli.passes.base import Skip
from modelopt_cli.passes.prune.structured.channels import Axis, Components
from modelopt_cli.passes.prune.structured.flow import Flow, Product

Kind = Literal["channels", "heads", "units"]


@dataclass(frozen=True)
class Group:
    """Interchangeable parts of a network; each may leave alone, with all that is coupled to it.

    Attributes:
        name: The first node that makes them.
        kind: Channels (of convolutions and hidden layers), attention heads, or units of recurrent operators.
        labels: Components, one for each part that may leave.
        producers: Nodes that make them.
        consumers: Weighted sums that read them, in graph order.
    """

    name: str
    kind: Kind
    labels: tuple[int, ...]
    producers: tuple[str, ...]
    consumers: tuple[Product, ...]

    @property
    def size(self) -> int:
        """How many parts there are."""
        return len(self.labels)


def find_groups(flow: Flow, parts: Components) -> tuple[tuple[Group, ...], tuple[Skip, ...]]:
    """Groups that have a weighted sum to absorb a loss; weighted sums whose outputs stay are refusals."""
    signatures = flow.channels.signatures(parts.label)
    made, read = _made(flow, parts), _read(flow, parts)
    heads, units = _labels_of(flow.heads, parts), _labels_of(flow.units, parts)
    found: dict[tuple[int, ...], list[int]] = {}
    for label in sorted(signatures):
        if label in made and label in read and label not in parts.reason:
            found.setdefault(signatures[label], []).append(label)
    groups = []
    for labels in found.values():
        producers = tuple(dict.fromkeys(_name(product) for product in made[labels[0]]))
        kind: Kind = "heads" if labels[0] in heads else "units" if labels[0] in units else "channels"
        if len(labels) > 1:
            groups.append(Group(producers[0], kind, tuple(labels), producers, tuple(read[labels[0]])))
    kept = {label for group in groups for label in group.labels}
    return tuple(groups), tuple(_refusals(flow, parts, kept, read))


def _refusals(flow: Flow, parts: Components, kept: set[int], read: dict[int, list[Product]]) -> list[Skip]:
    found: dict[str, str] = {}
    for product in flow.products:
        if product.rows.ids is None:
            found.setdefault(_name(product), product.rows.why or "its outputs are not channels")
            continue
        labels = np.unique(parts.label[product.rows.ids]).tolist()
        if any(label in kept for label in labels):
            continue
        reason = next((parts.reason[label] for label in labels if label in parts.reason), "")
        alone = "its outputs all depend on each other" if len(labels) == 1 else "no layer reads them linearly"
        found.setdefault(_name(product), reason or alone)
    return [Skip(name, reason) for name, reason in found.items()]


def _made(flow: Flow, parts: Components) -> dict[int, list[Product]]:
    return _by_label(flow, parts, [product.rows for product in flow.products])


def _read(flow: Flow, parts: Components) -> dict[int, list[Product]]:
    return _by_label(flow, parts, [product.columns for product in flow.products])


def _by_label(flow: Flow, parts: Components, axes: list[Axis]) -> dict[int, list[Product]]:
    found: dict[int, list[Product]] = {}
    for product, axis in zip(flow.products, axes, strict=True):
        if axis.ids is not None:
            for label in np.unique(parts.label[axis.ids]).tolist():
                found.setdefault(label, []).append(product)
    return found


def _labels_of(axes: list[Axis], parts: Components) -> set[int]:
    ids = [axis.ids for axis in axes if axis.ids is not None]
    return set(np.unique(parts.label[np.concatenate(ids)]).tolist()) if ids else set()


def _name(product: Product) -> str:
    return product.node.name or product.node.outputs[0].name or product.node.op_type

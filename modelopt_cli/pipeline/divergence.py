"""Where a candidate begins to differ from its original: tensors of the same name, held against each other in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from modelopt_cli.calibration.probe import Probe, tensor_sizes
from modelopt_cli.data.dataset import Dataset
from modelopt_cli.evaluation.agreement import AgreementMeter
from modelopt_cli.format import IDENTICAL_DB
from modelopt_cli.graph.edit import only_reader
from modelopt_cli.profiling.names import node_label
from modelopt_cli.progress import Progress, Silent
from modelopt_cli.report.comparison import Divergence, TensorAgreement

SAMPLES = 8
BELOW_DB = 20.0  # one part in a hundred of the signal's power is noise
MADE_GOOD_DB = 6.0  # noise does not shrink so far from one layer to the next
GROUP_BYTES = 48 << 20  # of the tensors that are held at once, of each model
_LONGEST_CHAIN = 5
_ELEMENTWISE = frozenset(
    {
        "Add", "BatchNormalization", "Clip", "Div", "Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "Identity",
        "LeakyRelu", "Mul", "PRelu", "Relu", "Sigmoid", "Sub", "Sum", "Tanh",
    }
)  # fmt: skip
_FEW = 16  # tensors of unknown size at a time


def find_divergence(
    original: ir.Model,
    candidate: ir.Model,
    data: Dataset,
    *,
    below_db: float = BELOW_DB,
    samples: int = SAMPLES,
    progress: Progress | None = None,
) -> Divergence | None:
    """Compare every floating-point tensor that both models compute under one name.

    A name may have changed its meaning: a Conv that took in the BatchNormalization after it keeps its own. So the
    candidate's tensor is held against the original's and against what the original makes of that element by element,
    and the nearest counts. A tensor below the limit counts as diverged only where the noise goes on, that is where one
    of the next tensors is below it too, or at an output.

    Args:
        original: The reference.
        candidate: What was made of it.
        data: Samples bound to the original.
        below_db: The limit.
        samples: Looked at, spread evenly.
        progress: Where to say how far it is.

    Returns:
        None where the models share no inner tensor.

    Raises:
        DataError: The data does not run.
        ModelError: A model does not load with its inner tensors as outputs.
    """
    names = _shared_tensors(original, candidate)
    if not names:
        return None
    taken = data.take(samples)
    found = _measure(original, candidate, names, taken, progress or Silent())
    before = _nearest_before(original, set(found))
    outputs = {value.name for value in original.graph.outputs}
    lasting = _lasting(found, before)
    first = next((each for each in lasting.values() if _goes_on(each, lasting, before, outputs, below_db)), None)
    loss = _largest_loss(lasting, _nearest_before(original, set(lasting)))
    return Divergence(below_db, len(taken), tuple(found.values()), first, loss)


def _shared_tensors(original: ir.Model, candidate: ir.Model) -> list[str]:
    """Names in the original's order; types other than floats are left out where they are known."""
    theirs = {value.name for node in candidate.graph for value in node.outputs}
    return [
        value.name
        for node in original.graph
        for value in node.outputs
        if value.name in theirs
        and value.name
        and node.op_type != "Constant"
        and (value.dtype is None or value.dtype.is_floating_point())
    ]


def _measure(
    original: ir.Model, candidate: ir.Model, names: Sequence[str], data: Dataset, progress: Progress
) -> dict[str, TensorAgreement]:
    writers = {value.name: node for node in original.graph for value in node.outputs}
    meanings = _meanings(original, set(names))
    meters = {(name, meaning): AgreementMeter(name) for name in names for meaning in meanings[name]}
    groups = list(_groups(original, meanings, names, data))
    floating: set[str] = set()
    with progress.task("comparing layer by layer", len(groups)) as advance:
        for group in groups:
            wanted = list(dict.fromkeys(meaning for name in group for meaning in meanings[name]))
            first, second = Probe(original, wanted), Probe(candidate, group)
            for sample in data:
                reference, got = first.run(sample), second.run(sample)
                for name in group:
                    if isinstance(reference[name], np.ndarray) and reference[name].dtype.kind == "f":
                        floating.add(name)
                        for meaning in meanings[name]:
                            meters[name, meaning].update(reference[meaning], np.asarray(got[name]))
            advance(1)
    best = {name: max(meters[name, each].result().sqnr_db for each in meanings[name]) for name in names}
    return {
        name: TensorAgreement(name, node_label(writers[name]), writers[name].op_type, best[name])
        for name in names
        if name in floating
    }


def _meanings(model: ir.Model, shared: set[str]) -> dict[str, tuple[str, ...]]:
    """For each shared tensor itself and the unshared ones that follow from it alone, element by element."""
    values = {value.name: value for node in model.graph for value in node.outputs}
    found = {}
    for name in shared:
        chain, value = [name], values[name]
        while len(chain) < _LONGEST_CHAIN:
            reader = only_reader(value)
            if reader is None or reader.op_type not in _ELEMENTWISE or reader.outputs[0].name in shared:
                break
            value = reader.outputs[0]
            chain.append(value.name or "")
        found[name] = tuple(chain)
    return found


def _groups(
    model: ir.Model, meanings: Mapping[str, Sequence[str]], names: Sequence[str], data: Dataset
) -> Iterator[list[str]]:
    """Tensors whose sizes on the first sample, those of their meanings included, add up to the bound at most."""
    sizes = _sizes(model, names, data)
    group: list[str] = []
    held = 0.0
    for name in names:
        size = sizes[name] * len(meanings[name])
        if group and held + size > GROUP_BYTES:
            yield group
            group, held = [], 0.0
        group.append(name)
        held += size
    if group:
        yield group


def _sizes(model: ir.Model, names: Sequence[str], data: Dataset) -> dict[str, float]:
    """Bytes of each tensor on the first sample; those of unknown type may be no tensors, and are made."""
    known = {value.name for node in model.graph for value in node.outputs if value.dtype is not None}
    sizes = tensor_sizes(model, [name for name in names if name in known], data)
    others = [name for name in names if name not in known]
    sample = next(iter(data))
    for start in range(0, len(others), _FEW):
        for name, array in Probe(model, others[start : start + _FEW]).run(sample).items():
            sizes[name] = array.nbytes if isinstance(array, np.ndarray) else 0
    return sizes


def _nearest_before(model: ir.Model, known: set[str]) -> dict[str, set[str]]:
    """For each known tensor the known ones it is computed from, without others in between."""
    reaches: dict[str, set[str]] = {}
    before: dict[str, set[str]] = {}
    for node in model.graph:
        sources: set[str] = set()
        for value in node.inputs:
            if value is not None and value.name:
                sources |= {value.name} if value.name in known else reaches.get(value.name, set())
        for output in node.outputs:
            if output.name in known:
                before[output.name] = sources
            elif output.name:
                reaches[output.name] = sources
    return before


def _lasting(found: Mapping[str, TensorAgreement], before: Mapping[str, set[str]]) -> dict[str, TensorAgreement]:
    """Without tensors whose noise is gone in all that is computed from them: rescaled, and the weights behind know."""
    after: dict[str, list[str]] = {name: [] for name in found}
    for name, sources in before.items():
        for source in sources:
            after[source].append(name)
    gone: set[str] = set()
    for name in reversed(list(found)):
        better = found[name].sqnr_db + MADE_GOOD_DB
        if after[name] and all(each in gone or found[each].sqnr_db > better for each in after[name]):
            gone.add(name)
    return {name: each for name, each in found.items() if name not in gone}


def _goes_on(
    each: TensorAgreement,
    found: Mapping[str, TensorAgreement],
    before: Mapping[str, set[str]],
    outputs: set[str | None],
    below_db: float,
) -> bool:
    if each.sqnr_db >= below_db:
        return False
    after = [found[name] for name, sources in before.items() if each.tensor in sources and name in found]
    return each.tensor in outputs or any(other.sqnr_db < below_db for other in after)


def _largest_loss(
    found: Mapping[str, TensorAgreement], before: Mapping[str, set[str]]
) -> tuple[TensorAgreement, float] | None:
    """Noise that a tensor adds to the worst of what it is computed from; equal tensors are as good as 60 dB here."""
    losses = []
    for name, each in found.items():
        sources = [found[source].sqnr_db for source in before[name]]
        start = min([60.0, *sources])
        if each.sqnr_db > -IDENTICAL_DB:
            losses.append((each, start - each.sqnr_db))
    worst = max(losses, key=lambda pair: pair[1], default=None)
    return worst if worst is not None and worst[1] > 0 else None

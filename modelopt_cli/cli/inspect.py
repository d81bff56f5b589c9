"""``modelopt inspect``: what is in a model, without running it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelopt_cli.cli.console import print_json, print_payload
from modelopt_cli.cli.files import read_model, refuse_two_pipes
from modelopt_cli.cli.options import Debug, Json, ModelsArgument

if TYPE_CHECKING:
    import onnx_ir as ir

    from modelopt_cli.graph.io import SourceModel


Prunable = Annotated[
    bool, typer.Option("--prunable", help="Show what structured pruning could remove, and why not the rest.")
]


def inspect(models: ModelsArgument, prunable: Prunable = False, as_json: Json = False, debug: Debug = False) -> None:
    """Show inputs, outputs, operators, sizes and types; several models side by side."""
    from modelopt_cli.cli.render_facts import inspection, prunable_groups

    refuse_two_pipes(*models)
    sources = [read_model(name) for name in models]
    facts = [describe_prunable(source) if prunable else describe(source) for source in sources]
    if as_json:
        print_json(facts if len(facts) > 1 else facts[0])
    elif prunable:
        print_payload(*(line for each in facts for line in prunable_groups(each)))
    else:
        print_payload(*inspection(facts))


def describe_prunable(source: SourceModel) -> dict[str, Any]:
    """What structured pruning could remove from a model, and what it could not, with the reason.

    Of the model as `prune --structured` gets it: simplified and fused.
    """
    from modelopt_cli.cli.compress import BEFORE_PRUNING
    from modelopt_cli.passes.base import PassContext
    from modelopt_cli.passes.prune.states import all_states
    from modelopt_cli.passes.registry import get_pass
    from modelopt_cli.targets.target import Target

    model, ctx = source.model.clone(), PassContext(Target())
    for name in BEFORE_PRUNING:
        model = get_pass(name)().apply(model, ctx).model
    with all_states(model):
        return {"model": source.label, **_prunable(model)}


def _prunable(model: ir.Model) -> dict[str, Any]:
    from modelopt_cli.passes.prune.structured.analysis import find_dependencies
    from modelopt_cli.passes.prune.structured.blocks import find_blocks

    found = find_dependencies(model)
    groups = [
        {
            "name": group.name,
            "kind": group.kind,
            "size": group.size,
            "producers": list(group.producers),
            "consumers": [product.node.name or product.node.op_type for product in group.consumers],
        }
        for group in found.groups
    ]
    held = [{"name": skip.node, "reason": skip.reason} for skip in found.skipped]
    blocks = [
        {"name": block.name, "producers": list(block.producers)}
        for block in find_blocks(model.graph, found.flow.shapes)
    ]
    return {"groups": groups, "branches": blocks, "held": held}


def describe(source: SourceModel) -> dict[str, Any]:
    """A model as data: its interface and `report.model.ModelStats`."""
    from modelopt_cli.graph.stats import model_stats

    graph = source.model.graph
    stats = model_stats(source.model, source.file_bytes)
    return {
        "model": source.label,
        "sha256": source.sha256,
        "producer": " ".join(filter(None, (source.model.producer_name, source.model.producer_version))),
        "opsets": dict(source.model.opset_imports),
        "inputs": [_value(each) for each in graph.inputs if each.name not in graph.initializers],
        "outputs": [_value(each) for each in graph.outputs],
        **asdict(stats),
        "sparsity": stats.sparsity,
        "external_data": source.uses_external_data,
        "metadata": dict(source.model.metadata_props),
    }


def _value(value: ir.Value) -> dict[str, Any]:
    shape = None if value.shape is None else [d if isinstance(d, int) else d.value for d in value.shape]
    return {"name": value.name, "type": _type_name(value), "shape": shape}


def _type_name(value: ir.Value) -> str:
    if value.dtype is None:
        return str(value.type)  # a sequence, a map, an optional
    name = value.dtype.name.lower()
    return {"float": "float32", "double": "float64"}.get(name, name)

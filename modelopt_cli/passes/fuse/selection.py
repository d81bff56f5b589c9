"""Which rules of a table a pass applies: the options that both passes of the family have."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from typing import Annotated, Self

import onnx_ir as ir
from pydantic import Field, field_validator

from modelopt_cli.passes.base import Pass
from modelopt_cli.passes.fuse.rules.table import ALL, Table, rule_names, select


class RulePass(Pass):
    """A pass that is a table of rules, some of which may be switched off."""

    only: Annotated[tuple[str, ...], Field(description="Apply these rules and no others; none for all.")] = ()
    skip: Annotated[tuple[str, ...], Field(description="Do not apply these rules.")] = ()

    @field_validator("only", "skip")
    @classmethod
    def _check_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        known = rule_names(ALL)
        for name in names:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
                raise ValueError(f"there is no rule '{name}'; {hint}")
        return names

    def without(self, parts: Collection[str]) -> Self:
        """This pass with these rules switched off too."""
        return self.model_copy(update={"skip": tuple(dict.fromkeys([*self.skip, *parts]))})

    def _selected(self, table: Table) -> Table:
        return select(table, self.only, self.skip)


def count_nodes(graphs: Sequence[ir.Graph]) -> int:
    """Nodes of all these graphs together."""
    return sum(len(graph) for graph in graphs)

"""The rules in the order in which they are tried, by pass and stage."""

from __future__ import annotations

from modelopt_cli.passes.fuse.engine import AnyRule
from modelopt_cli.passes.fuse.rules.drop_no_op import DropNoOp
from modelopt_cli.passes.fuse.rules.fold_affine_after import FoldAffineAfter
from modelopt_cli.passes.fuse.rules.known_integers import KnownIntegers
from modelopt_cli.passes.fuse.rules.merge_reshapes import MergeReshapes
from modelopt_cli.passes.fuse.rules.merge_transposes import MergeTransposes
from modelopt_cli.passes.fuse.rules.move_affine_forward import MoveAffineForward
from modelopt_cli.passes.fuse.rules.static_reshape import StaticReshape

SIMPLIFY: tuple[tuple[AnyRule, ...], ...] = (
    (KnownIntegers(), StaticReshape(), DropNoOp()),
    (MergeTransposes(), MergeReshapes()),
)

FUSE: tuple[tuple[AnyRule, ...], ...] = (
    (FoldAffineAfter(),),
    (MoveAffineForward(),),
)

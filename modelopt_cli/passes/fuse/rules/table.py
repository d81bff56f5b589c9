"""The rules in the order in which they are tried, by pass and stage."""

from __future__ import annotations

from modelopt_cli.passes.fuse.engine import AnyRule
from modelopt_cli.passes.fuse.rules.drop_no_op import DropNoOp
from modelopt_cli.passes.fuse.rules.drop_zero_state import DropZeroState
from modelopt_cli.passes.fuse.rules.fold_affine_after import FoldAffineAfter
from modelopt_cli.passes.fuse.rules.fold_pad import FoldPad
from modelopt_cli.passes.fuse.rules.hard_sigmoid_to_clip import HardSigmoidToClip
from modelopt_cli.passes.fuse.rules.known_integers import KnownIntegers
from modelopt_cli.passes.fuse.rules.matmul_to_gemm import MatMulToGemm
from modelopt_cli.passes.fuse.rules.merge_affine import MergeAffine
from modelopt_cli.passes.fuse.rules.merge_clips import MergeClips
from modelopt_cli.passes.fuse.rules.merge_gated_residual import MergeGatedResidual
from modelopt_cli.passes.fuse.rules.merge_reshapes import MergeReshapes
from modelopt_cli.passes.fuse.rules.merge_transposes import MergeTransposes
from modelopt_cli.passes.fuse.rules.move_affine_forward import MoveAffineForward
from modelopt_cli.passes.fuse.rules.recognise_gelu import RecogniseGelu
from modelopt_cli.passes.fuse.rules.recognise_hard_sigmoid import RecogniseHardSigmoid
from modelopt_cli.passes.fuse.rules.recognise_hard_swish import RecogniseHardSwish
from modelopt_cli.passes.fuse.rules.scale_backward import ScaleBackward
from modelopt_cli.passes.fuse.rules.static_reshape import StaticReshape

Table = tuple[tuple[AnyRule, ...], ...]

SIMPLIFY: Table = (
    (KnownIntegers(), StaticReshape(), DropNoOp(), DropZeroState()),
    (MergeTransposes(), MergeReshapes()),
)

# Activations are recognised while their constants are still where the exporter put them; then the arithmetic moves.
FUSE: Table = (
    (RecogniseGelu(), RecogniseHardSigmoid(), RecogniseHardSwish(), MergeClips()),
    (FoldPad(), FoldAffineAfter(), MergeAffine()),
    (HardSigmoidToClip(), MergeGatedResidual()),
    (MoveAffineForward(), ScaleBackward(), MatMulToGemm()),
    *SIMPLIFY,
)

"""The rules in the order in which they are tried, by pass and stage."""

from __future__ import annotations

from collections.abc import Collection

from modelopt_cli.passes.fuse.engine import AnyRule
from modelopt_cli.passes.fuse.rules.batched_matmul import BatchedMatMul
from modelopt_cli.passes.fuse.rules.bias_before_reshape import BiasBeforeReshape
from modelopt_cli.passes.fuse.rules.cancel_transposes import CancelTransposes
from modelopt_cli.passes.fuse.rules.drop_expand import DropExpand
from modelopt_cli.passes.fuse.rules.drop_nan_guard import DropNanGuard
from modelopt_cli.passes.fuse.rules.drop_no_op import DropNoOp
from modelopt_cli.passes.fuse.rules.drop_zero_state import DropZeroState
from modelopt_cli.passes.fuse.rules.einsum_to_matmul import EinsumToMatMul
from modelopt_cli.passes.fuse.rules.factor_residual import FactorResidual
from modelopt_cli.passes.fuse.rules.fold_affine_after import FoldAffineAfter
from modelopt_cli.passes.fuse.rules.fold_pad import FoldPad
from modelopt_cli.passes.fuse.rules.fold_pad_pool import FoldPadPool
from modelopt_cli.passes.fuse.rules.fuse_attention import FuseAttention
from modelopt_cli.passes.fuse.rules.gather_before_transpose import GatherBeforeTranspose
from modelopt_cli.passes.fuse.rules.group_queries import GroupQueries
from modelopt_cli.passes.fuse.rules.hard_sigmoid_to_clip import HardSigmoidToClip
from modelopt_cli.passes.fuse.rules.inline_if import InlineIf
from modelopt_cli.passes.fuse.rules.keep_axes import KeepAxes
from modelopt_cli.passes.fuse.rules.known_integers import KnownIntegers
from modelopt_cli.passes.fuse.rules.known_truths import KnownTruths
from modelopt_cli.passes.fuse.rules.last_state import LastState
from modelopt_cli.passes.fuse.rules.matmul_to_gemm import MatMulToGemm
from modelopt_cli.passes.fuse.rules.merge_affine import MergeAffine
from modelopt_cli.passes.fuse.rules.merge_batch_norm import MergeBatchNorm
from modelopt_cli.passes.fuse.rules.merge_branches import MergeBranches
from modelopt_cli.passes.fuse.rules.merge_casts import CastLikeToCast, MergeCasts
from modelopt_cli.passes.fuse.rules.merge_clips import MergeClips, RecogniseClip
from modelopt_cli.passes.fuse.rules.merge_concats import MergeConcats
from modelopt_cli.passes.fuse.rules.merge_gated_residual import MergeGatedResidual
from modelopt_cli.passes.fuse.rules.merge_linear import MergeLinear
from modelopt_cli.passes.fuse.rules.merge_reshapes import MergeReshapes
from modelopt_cli.passes.fuse.rules.merge_slices import MergeSlices, SliceToGather
from modelopt_cli.passes.fuse.rules.merge_transposes import MergeTransposes
from modelopt_cli.passes.fuse.rules.move_affine_backward import MoveAffineBackward
from modelopt_cli.passes.fuse.rules.move_affine_forward import MoveAffineForward
from modelopt_cli.passes.fuse.rules.part_residual import PartResidual
from modelopt_cli.passes.fuse.rules.pool_first import PoolFirst
from modelopt_cli.passes.fuse.rules.recognise_gelu import RecogniseGelu
from modelopt_cli.passes.fuse.rules.recognise_hard_sigmoid import RecogniseHardSigmoid
from modelopt_cli.passes.fuse.rules.recognise_hard_swish import RecogniseHardSwish
from modelopt_cli.passes.fuse.rules.recognise_instance_norm import RecogniseInstanceNorm
from modelopt_cli.passes.fuse.rules.recognise_l2 import RecogniseL2
from modelopt_cli.passes.fuse.rules.recognise_leaky_relu import RecogniseLeakyRelu
from modelopt_cli.passes.fuse.rules.recognise_mish import RecogniseMish
from modelopt_cli.passes.fuse.rules.recognise_moments import RecogniseMoments
from modelopt_cli.passes.fuse.rules.recognise_norm import RecogniseNorm
from modelopt_cli.passes.fuse.rules.recognise_rotary import RecogniseRotary
from modelopt_cli.passes.fuse.rules.recognise_sigmoid import RecogniseSigmoid, RecogniseSoftplus, RecogniseSoftsign
from modelopt_cli.passes.fuse.rules.scale_part_backward import ScalePartBackward
from modelopt_cli.passes.fuse.rules.select_first import SelectFirst
from modelopt_cli.passes.fuse.rules.sequence_to_split import SequenceToSplit
from modelopt_cli.passes.fuse.rules.sink_weights import SinkWeights
from modelopt_cli.passes.fuse.rules.squeeze_before_transpose import SqueezeBeforeTranspose
from modelopt_cli.passes.fuse.rules.static_reshape import StaticReshape
from modelopt_cli.passes.fuse.rules.transpose_through_reshape import TransposeThroughReshape
from modelopt_cli.targets.target import Target

Table = tuple[tuple[AnyRule, ...], ...]

SIMPLIFY: Table = (
    (InlineIf(), KnownIntegers(), StaticReshape(), DropNoOp(), DropZeroState(), CastLikeToCast(), MergeCasts()),
    (DropExpand(), SequenceToSplit(), KeepAxes(), KnownTruths(), DropNanGuard()),
    (MergeTransposes(), CancelTransposes(), TransposeThroughReshape(), SqueezeBeforeTranspose()),
    (GatherBeforeTranspose(), LastState()),
    (MergeReshapes(), MergeSlices(), SliceToGather(), MergeConcats()),
)

# Activations are recognised while their constants are still where the exporter put them; then the arithmetic moves.
FUSE: Table = (
    (
        *(
            RecogniseGelu(),
            RecogniseInstanceNorm(),
            RecogniseNorm(),
            RecogniseMoments(),
            RecogniseL2(),
            RecogniseMish(),
            RecogniseHardSigmoid(),
            RecogniseHardSwish(),
        ),
        *(RecogniseLeakyRelu(), RecogniseSigmoid(), RecogniseSoftplus(), RecogniseSoftsign()),
        *(RecogniseRotary(), GroupQueries(), RecogniseClip(), MergeClips()),
    ),
    (EinsumToMatMul(), BatchedMatMul(), BiasBeforeReshape()),
    (FoldPad(), FoldPadPool(), FoldAffineAfter(), MergeAffine()),
    (PoolFirst(), MergeBranches(), MergeLinear()),
    (HardSigmoidToClip(), MergeGatedResidual(), FactorResidual()),
    (MoveAffineForward(), MoveAffineBackward(), ScalePartBackward(), MergeBatchNorm(), MatMulToGemm()),
    *SIMPLIFY,
)

# After all others, because no other rule would know the patterns again.
ATTENTION_ON_CPU: Table = ((FuseAttention(),),)  # what onnxruntime's CPU is fast with
LAST: Table = ((SelectFirst(),),)
LAST_ON_CPU: Table = ((SelectFirst(),), (PartResidual(),), (SinkWeights(),))

ALL: Table = (*FUSE, *ATTENTION_ON_CPU, *LAST_ON_CPU)


def finishing(target: Target) -> tuple[Table, ...]:
    """The tables that come after all others on a target, one after the other, each with the opsets that it asks for."""
    return (ATTENTION_ON_CPU, LAST_ON_CPU) if target.provider == "cpu" else (LAST,)


def rule_names(table: Table) -> list[str]:
    """The names of all rules of a table, in its order."""
    return [rule.name for stage in table for rule in stage]


def select(table: Table, only: Collection[str], skip: Collection[str]) -> Table:
    """The table without the rules in ``skip`` and, where ``only`` names some, without all others."""
    wanted = set(only or rule_names(table)) - set(skip)
    return tuple(tuple(rule for rule in stage if rule.name in wanted) for stage in table)

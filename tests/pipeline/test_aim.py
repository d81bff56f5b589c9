"""What a recipe requires becomes an option of the passes that can keep to it."""

from modelopt_cli.passes.fuse.simplify import Simplify
from modelopt_cli.passes.prune.prune import Prune
from modelopt_cli.passes.quantize.lowbit.codebook import Codebook
from modelopt_cli.passes.quantize.quantize import Quantize
from modelopt_cli.pipeline.aim import accuracy_drop, aim
from modelopt_cli.recipe.schema import Require


def test_a_required_fidelity_is_worked_towards():
    simplify, quantize = aim([Simplify(), Quantize(samples=8)], Require(min_sqnr=25.0, max_accuracy_drop=0.01))
    assert isinstance(quantize, Quantize)
    assert (quantize.min_sqnr, quantize.max_accuracy_drop, quantize.samples) == (25.0, 0.01, 8)
    assert simplify == Simplify()


def test_an_option_of_the_step_itself_stays():
    (quantize,) = aim([Quantize(min_sqnr=12.0)], Require(min_sqnr=25.0))
    assert isinstance(quantize, Quantize)
    assert quantize.min_sqnr == 12.0


def test_nothing_required_changes_nothing():
    assert aim([Quantize()], Require(min_speedup=1.2)) == [Quantize()]
    assert accuracy_drop(None, None, None, [Quantize()]) is None


def test_agreement_is_not_worked_towards_without_data_to_judge_it_on():
    (prune,) = aim([Prune()], Require(min_agreement=0.9, max_accuracy_drop=0.01), calibrated=False)
    assert isinstance(prune, Prune)
    assert (prune.min_agreement, prune.max_accuracy_drop) == (None, 0.01)


def test_a_step_that_keeps_to_a_size_is_not_given_a_fidelity_too():
    small = Codebook(bits="auto", max_size=0.2)
    assert aim([small], Require(min_sqnr=25.0)) == [small]

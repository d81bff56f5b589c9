"""BatchNormalization behind pruned layers: its mean is the bias of a fit, and its statistics follow without one."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from modelopt_cli.passes.prune.batch_norm import match_statistics
from modelopt_cli.passes.prune.linear import linear_layer
from modelopt_cli.passes.prune.prune import Prune
from modelopt_cli.passes.prune.weights import find_weights
from modelopt_cli.testing import ArrayDataset, model_from_text, run_model, run_pass

RNG = np.random.default_rng(4)
TEXT = """m (float[N,4,6,6] x) => (float[N,8,6,6] z) {
    h = Conv <pads=[1,1,1,1]> (x, w)
    n = BatchNormalization (h, g, b, m, v)
    r = Relu (n)
    y = Conv (r, u)
    z = BatchNormalization (y, g, b, m2, v2) }"""
IMAGES = RNG.standard_normal((48, 4, 6, 6)).astype(np.float32) + 0.5
DATA = ArrayDataset({"x": IMAGES})


def network() -> ir.Model:
    weights = {"w": RNG.standard_normal((8, 4, 3, 3)), "u": RNG.standard_normal((8, 8, 1, 1))}
    vectors = {name: RNG.random(8) + 0.5 for name in ("g", "b", "m", "v", "m2", "v2")}
    return model_from_text(TEXT, **{name: a.astype(np.float32) for name, a in (weights | vectors).items()})


NET = network()


def error(model: ir.Model) -> float:
    wanted, got = (run_model(each, {"x": IMAGES})["z"] for each in (NET, model))
    return float(np.mean((got - wanted) ** 2) / wanted.var())


def test_the_mean_is_the_bias_of_the_layer_before() -> None:
    net = NET.clone()
    (weight, _), _ = find_weights(net)
    layer = linear_layer(weight.nodes[0], [weight])
    assert not isinstance(layer, str)
    assert layer.bias is not None
    before = run_model(net, {"x": IMAGES})["z"]
    with layer.draft(layer.matrix(), np.ones((1, 8))):
        assert np.allclose(
            net.graph.initializers["m"].const_value.numpy(), NET.graph.initializers["m"].const_value.numpy() - 1
        )
    assert np.array_equal(run_model(net, {"x": IMAGES})["z"], before)


def test_a_fit_uses_it() -> None:
    fitted = run_pass(Prune(sparsity=0.5, distribution="uniform"), NET, calibration=DATA)
    alone = run_pass(Prune(sparsity=0.5, distribution="uniform", refit=False), NET, calibration=DATA)
    assert error(fitted.model) < error(alone.model)
    assert not np.allclose(*(each.graph.initializers["m2"].const_value.numpy() for each in (NET, fitted.model)))
    assert fitted.details.get("batch_norms") is None
    assert alone.details["batch_norms"] == 2


def test_statistics_give_each_output_its_old_mean_and_spread() -> None:
    pruned = run_pass(Prune(sparsity=0.6, criterion="magnitude"), NET).model
    off = error(pruned)
    assert match_statistics(NET, pruned, DATA) == 2
    wanted, got = (run_model(each, {"x": IMAGES})["z"] for each in (NET, pruned))
    assert np.allclose(got.mean((0, 2, 3)), wanted.mean((0, 2, 3)), atol=1e-4)
    assert np.allclose(got.std((0, 2, 3)), wanted.std((0, 2, 3)), rtol=1e-3)
    assert error(pruned) < off


def test_equal_networks_stay_as_they_are() -> None:
    same = NET.clone()
    assert match_statistics(NET, same, DATA) == 0

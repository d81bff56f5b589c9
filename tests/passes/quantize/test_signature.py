import numpy as np
import onnx_ir as ir
import pytest

from modelopt_cli.passes.quantize.groups import Group, Way
from modelopt_cli.passes.quantize.shapes import observed_shapes
from modelopt_cli.passes.quantize.signature import classes, positions, signature
from modelopt_cli.testing import model_from_text


def _product(shape: tuple[int, int], seed: int, rows: int = 3) -> str:
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    weight = ir.Value(name="w", const_value=ir.tensor(values))
    source = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT))
    return signature([ir.Node("", "MatMul", [source, weight])], {"x": (rows, shape[0])})


def test_equal_blocks_of_other_values_are_equal() -> None:
    assert _product((4, 8), 0) == _product((4, 8), 1)


@pytest.mark.parametrize(("shape", "rows"), [((4, 6), 3), ((4, 8), 5)])
def test_other_shapes_are_other_blocks(shape: tuple[int, int], rows: int) -> None:
    assert _product((4, 8), 0) != _product(shape, 0, rows)


def test_attributes_count() -> None:
    source = ir.Value(name="x")
    found = {signature([ir.Node("", "Softmax", [source], [ir.AttrInt64("axis", axis)])], {}) for axis in (0, 1)}
    assert len(found) == 2


def _chain(kernels: str) -> str:
    """Blocks of Conv and Relu, one for each digit: the kernel's size."""
    steps, source = [], "x"
    for at, size in enumerate(kernels):
        steps += [f'c{at} = Conv <auto_pad = "SAME_UPPER"> ({source}, w{size})', f"r{at} = Relu (c{at})"]
        source = f"r{at}"
    return f"net (float[1,4,8,8] x) => (float[1,4,8,8] {source}) {{ {' '.join(steps)} }}"


def _places(kernels: str) -> dict[str, str]:
    weights = {f"w{size}": np.ones((4, 4, int(size), int(size)), np.float32) for size in sorted(set(kernels))}
    model = model_from_text(_chain(kernels), **weights)
    return positions(model.graph, observed_shapes(model, {"x": np.zeros((1, 4, 8, 8), np.float32)}))


def test_blocks_in_the_middle_of_a_chain_stand_at_one_place() -> None:
    places = _places("333333")
    for op in "cr":
        middle = {places[f"{op}{at}"] for at in (2, 3)}
        assert len(middle) == 1
        assert not middle & {places[f"{op}0"], places[f"{op}5"]}  # at the ends other nodes are near
    assert places["c2"] != places["r2"]


def test_what_stands_near_another_block_stands_elsewhere() -> None:
    places = _places("33331333")
    assert places["c2"] != places["c3"]  # c4 is two nodes behind c3, and four behind c2
    assert places["c2"] != places["c4"]


def test_operands_are_told_apart() -> None:
    text = """net (float[1,4] x) => (float[1,4] y) {
        a = Relu (x) b = Relu (x) y = Sub (a, b) }"""
    model = model_from_text(text)
    places = positions(model.graph, observed_shapes(model, {"x": np.zeros((1, 4), np.float32)}))
    assert places["a"] != places["b"]


def test_classes_hold_the_groups_of_one_place_and_one_way() -> None:
    ways: list[Way] = ["static", "static", "dynamic", "static"]
    groups = [Group(name, ("Conv",), (name,), way) for name, way in zip("abcd", ways, strict=True)]
    places = dict.fromkeys("abc", "here")
    assert [[each.name for each in found] for found in classes(groups, places)] == [["a", "b"], ["c"], ["d"]]

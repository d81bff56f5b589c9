"""Whatever legal network is put together, removal leaves a valid one, and the same where nobody misses anything."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir
from channel_models import assert_exact_removal, ints, named, silenced
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from modelopt_cli.graph.edit import add_weight
from modelopt_cli.graph.io import model_bytes
from modelopt_cli.passes.prune.structured.analysis import find_dependencies
from modelopt_cli.passes.prune.structured.blocks import find_blocks
from modelopt_cli.passes.prune.structured.timetable import cut
from modelopt_cli.testing import assert_same_outputs, model_from_text, random_feeds

BLOCKS = (
    *("conv", "residual", "depthwise", "grouped", "transposed", "concat", "gate", "shuffle", "split", "norm", "shared"),
    *("tokens", "attention", "recurrent"),
)


@dataclass
class Builder:
    """Writes a network of blocks; sizes are drawn, the batch stays free."""

    rng: np.random.Generator
    lines: list[str] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    value: str = "x"
    channels: int = 3

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = (self.rng.standard_normal(shape) / 2).astype(np.float32)
        return name

    def numbers(self, *values: int) -> str:
        name = f"i{len(self.weights)}"
        self.weights[name] = ints(*values)
        return name

    def emit(self, call: str) -> str:
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {call}")
        return name

    def conv(self, source: str, inputs: int, outputs: int) -> str:
        return self.emit(f"Conv ({source}, {self.weight(outputs, inputs, 1, 1)}, {self.weight(outputs)})")

    def add(self, block: str) -> None:
        x, c = self.value, self.channels
        wide = int(self.rng.integers(2, 5)) * 2
        if block == "conv":
            self.value, self.channels = self.emit(f"Relu ({self.conv(x, c, wide)})"), wide
        elif block == "residual":
            inner = self.emit(f"Relu ({self.conv(x, c, wide)})")
            self.value = self.emit(f"Add ({x}, {self.conv(inner, wide, c)})")
        elif block == "depthwise":
            self.value = self.emit(f"Conv <group={c}, pads=[1,1,1,1]> ({x}, {self.weight(c, 1, 3, 3)})")
        elif block == "grouped" and c % 2 == 0:
            self.value, self.channels = self.emit(f"Conv <group=2> ({x}, {self.weight(wide, c // 2, 1, 1)})"), wide
        elif block == "transposed":
            weights = f"{self.weight(c, wide, 3, 3)}, {self.weight(wide)}"
            self.value, self.channels = self.emit(f"ConvTranspose <pads=[1,1,1,1]> ({x}, {weights})"), wide
        elif block == "concat":
            self.value = self.emit(f"Concat <axis=1> ({x}, {self.conv(x, c, wide)})")
            self.channels = c + wide
        elif block == "gate":
            squeezed = self.emit(f"Relu ({self.conv(self.emit(f'GlobalAveragePool ({x})'), c, wide)})")
            self.value = self.emit(f"Mul ({x}, {self.emit(f'Sigmoid ({self.conv(squeezed, wide, c)})')})")
        elif block == "shuffle" and c % 2 == 0:
            apart = self.emit(f"Reshape ({x}, {self.numbers(0, 2, c // 2, 4, 4)})")
            turned = self.emit(f"Transpose <perm=[0,2,1,3,4]> ({apart})")
            self.value = self.emit(f"Reshape ({turned}, {self.numbers(0, c, 4, 4)})")
        elif block == "split" and c > 1:
            first = self.emit(f"Slice ({x}, {self.numbers(0)}, {self.numbers(1)}, {self.numbers(1)})")
            rest = self.emit(f"Slice ({x}, {self.numbers(1)}, {self.numbers(c)}, {self.numbers(1)})")
            self.value = self.emit(f"Concat <axis=1> ({rest}, {first})")
        elif block == "norm":
            stats = [self.weight(c) for _ in range(3)]
            self.weights["v" + stats[0]] = np.ones(c, np.float32)
            self.value = self.emit(f"BatchNormalization ({x}, {', '.join(stats)}, v{stats[0]})")
        elif block == "shared":
            shared = self.weight(c, c, 1, 1)
            self.value = self.emit(f"Conv ({self.emit(f'Conv ({x}, {shared})')}, {shared})")
        elif block == "tokens":
            self.tokens(x, c)
        elif block == "attention":
            self.attention(x, c)
        elif block == "recurrent":
            self.recurrent(x, c, wide)

    def tokens(self, x: str, c: int) -> None:
        """Attention of two heads over the 16 positions, back to an image."""
        flat = self.emit(f"Reshape ({x}, {self.numbers(0, c, 16)})")
        rows = self.emit(f"Transpose <perm=[0,2,1]> ({flat})")
        parts = []
        for order in ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3)):
            projected = self.emit(f"MatMul ({rows}, {self.weight(c, 6)})")
            apart = self.emit(f"Reshape ({projected}, {self.numbers(0, 0, 2, 3)})")
            parts.append(self.emit(f"Transpose <perm=[{','.join(map(str, order))}]> ({apart})"))
        shares = self.emit(f"Softmax <axis=-1> ({self.emit(f'MatMul ({parts[0]}, {parts[1]})')})")
        mixed = self.emit(f"Transpose <perm=[0,2,1,3]> ({self.emit(f'MatMul ({shares}, {parts[2]})')})")
        joined = self.emit(f"Reshape ({mixed}, {self.numbers(0, 0, 6)})")
        out = self.emit(f"Transpose <perm=[0,2,1]> ({self.emit(f'MatMul ({joined}, {self.weight(6, c)})')})")
        self.value = self.emit(f"Reshape ({out}, {self.numbers(0, c, 4, 4)})")

    def attention(self, x: str, c: int) -> None:
        """The same as one operator, with four heads of queries to two of keys and values, in a sum that is a Sum."""
        flat = self.emit(f"Reshape ({x}, {self.numbers(0, c, 16)})")
        rows = self.emit(f"Transpose <perm=[0,2,1]> ({flat})")
        parts = [self.emit(f"MatMul ({rows}, {self.weight(c, 3 * heads)})") for heads in (4, 2, 2)]
        mixed = self.emit(f"Attention <q_num_heads=4, kv_num_heads=2> ({', '.join(parts)})")
        total = self.emit(f"Sum ({rows}, {self.emit(f'MatMul ({mixed}, {self.weight(12, c)})')})")
        out = self.emit(f"Transpose <perm=[0,2,1]> ({total})")
        self.value = self.emit(f"Reshape ({out}, {self.numbers(0, c, 4, 4)})")

    def recurrent(self, x: str, c: int, hidden: int) -> None:
        """A GRU over the 16 positions, its units the channels of an image."""
        flat = self.emit(f"Reshape ({x}, {self.numbers(0, c, 16)})")
        steps = self.emit(f"Transpose <perm=[2,0,1]> ({flat})")
        weights = f"{self.weight(1, 3 * hidden, c)}, {self.weight(1, 3 * hidden, hidden)}, {self.weight(1, 6 * hidden)}"
        states = self.emit(f"GRU <hidden_size={hidden}> ({steps}, {weights})")
        rows = self.emit(f"Squeeze ({states}, {self.numbers(1)})")
        turned = self.emit(f"Transpose <perm=[1,2,0]> ({rows})")
        self.value, self.channels = self.emit(f"Reshape ({turned}, {self.numbers(0, hidden, 4, 4)})"), hidden

    def model(self) -> ir.Model:
        head = self.emit(f"Flatten ({self.emit(f'GlobalAveragePool ({self.value})')})")
        self.lines.append(f"y = Gemm <transB=1> ({head}, {self.weight(4, self.channels)})")
        body = "\n".join(self.lines)
        header = '<ir_version: 10, opset_import: ["" : 23]>'
        return named(model_from_text(f"{header} m (float[N,3,4,4] x) => (float[N,4] y) {{ {body} }}", **self.weights))


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=6), st.integers(0, 2**16), st.floats(0.2, 0.7))
def test_removal_is_valid_and_exact(blocks: list[str], seed: int, share: float) -> None:
    builder = Builder(np.random.default_rng(seed))
    builder.add("conv")
    for block in blocks:
        builder.add(block)
    model = builder.model()
    assume(find_dependencies(model).groups)  # shuffles in a row may tie all channels together: then nothing can leave
    inputs = [(value.name, str(value.shape)) for value in (*model.graph.inputs, *model.graph.outputs)]
    after = assert_exact_removal(model, share, N=2)
    assert [(value.name, str(value.shape)) for value in (*after.graph.inputs, *after.graph.outputs)] == inputs


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=4), st.integers(0, 2**16), st.floats(0.2, 0.7))
def test_branches_leave_with_what_is_within_them(blocks: list[str], seed: int, share: float) -> None:
    builder = Builder(np.random.default_rng(seed))
    for block in ("conv", "residual", *blocks, "residual"):
        builder.add(block)
    before = builder.model()
    found = find_dependencies(before)
    branches = find_blocks(before.graph, found.flow.shapes)
    assert branches
    gone = [label for group in found.groups for label in group.labels[: max(1, int(group.size * share))]]
    silenced(before, found, gone)
    after = cut(before, gone, branches)
    for branch in branches:
        total = next(node for node in before.graph if node.outputs[0].name == branch.sum)
        place = [value.name for value in total.inputs if value is not None].index(branch.branch)
        total.replace_input_with(place, add_weight(before.graph, "nothing", np.zeros(1, np.float32)))
    onnx.checker.check_model(onnx.load_from_string(model_bytes(after)), full_check=True)
    assert_same_outputs(before, after, random_feeds(before, builder.rng, N=2), rtol=1e-4, atol=1e-5)
    assert len(after.graph) < len(before.graph)

"""Fusion against the graph optimizers of onnxslim, onnxsim, onnxscript and onnxruntime.

Passes `simplify` and `fuse` and each peer at its defaults on the same file. Nodes of the main graph, and of all graphs
where the model has branches; Constant nodes count. Seconds of CPU time, the better of two, from the parsed model to the
written file. Latency on one thread as a share of the original's, all results interleaved in one run; onnxruntime
optimizes each of them once more while it loads, at its highest level. Goals: fewest nodes everywhere, 45 % fewer
than the best peer on PP-OCR det, never slower than the original or the best peer, faster than onnxslim at work, under
1 s for 1,500 nodes.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

from benchmarks.foreign_models import WHEELS
from benchmarks.models import subjects
from benchmarks.table import ROOT, table
from modelopt_cli.data.dataset import Sample
from modelopt_cli.errors import ModelOptError, UsageError
from modelopt_cli.graph.io import load_model
from modelopt_cli.profiling.statistics import LatencyComparison
from modelopt_cli.profiling.timing import compare_many
from modelopt_cli.profiling.trial import runnable_feeds

ENVIRONMENT = ROOT / ".venv-peers"
PEERS = {"onnxslim": "onnxslim==0.1.98", "onnxsim": "onnxsim==0.8.1", "onnxscript": "onnxscript", "onnxruntime": ""}
OURS = "modelopt"
SECONDS = 4.0
LAYERS = 300  # of five nodes each
LARGE_GB = 2.1
HEAD = ("model", "tool", "nodes:", "all:", "s:", "latency:", "95 %:")


@dataclass
class Result:
    """What one tool made of a model; ``timing`` is filled in when all are timed together."""

    tool: str
    path: Path
    seconds: float
    nodes: int
    all_nodes: int
    timing: LatencyComparison | None = None


@dataclass
class Case:
    """A model with what the tools made of it, ours first."""

    name: str
    original: tuple[int, int]
    results: list[Result] = field(default_factory=list)

    @property
    def peers(self) -> list[Result]:
        return [result for result in self.results if result.tool != OURS]


def run() -> str:
    _install()
    cases = []
    with tempfile.TemporaryDirectory() as name:
        for label, path, shapes in _models(Path(name)):
            cases.append(_case(label, path, shapes, Path(name)))
            print(*_rows(cases[-1]), sep="\n", file=sys.stderr, flush=True)  # it takes minutes
    rows = [row for case in cases for row in _rows(case)]
    return f"{table(HEAD, rows)}\n\n{_verdict(cases)}\n\n{_memory()}"


def _memory() -> str:
    """Peaks of anonymous memory in the rewriting process, for weights that lie beside the model."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.memory_fusion", folder, str(LARGE_GB)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    facts = json.loads(done.stdout)
    peaks = ", ".join(f"{phase} {megabytes:.0f} MB" for phase, megabytes in facts["anonymous_mb"].items())
    return (
        f"A generated model of {LARGE_GB} GB of external weights ({facts['nodes'][0]} nodes, then {facts['nodes'][1]};"
        f" one weight of eight changed): anonymous memory {peaks}; goal: at most 1 GB."
    )


def _install() -> None:
    """The peers in an environment of their own; one that cannot be installed is left out of the table."""
    if ENVIRONMENT.is_dir():
        return
    venv.create(ENVIRONMENT, with_pip=True)
    own = f"onnxruntime=={__import__('onnxruntime').__version__}"
    for package in (own, *filter(None, PEERS.values())):
        subprocess.run([_python(), "-m", "pip", "install", "--quiet", package], check=False)
    # ships three more real models, which need nothing of its dependencies
    subprocess.run([_python(), "-m", "pip", "install", "--quiet", "--no-deps", "rapidocr-onnxruntime"], check=False)


def _python() -> str:
    return str(ENVIRONMENT / "bin" / "python")


def _models(folder: Path) -> Iterator[tuple[str, Path, dict[str, list[int]]]]:
    for subject in subjects():
        yield subject.name, subject.model, subject.spec.get("latency_shape") or {}
    for path in sorted(ENVIRONMENT.glob("lib/*/site-packages/rapidocr_onnxruntime/models/*.onnx")):
        if "det" not in path.stem:  # the detector is in the zoo
            yield path.stem.removesuffix("_infer"), path, {"x": [1, 3, 48, 320 if "rec" in path.stem else 192]}
    for path in sorted(WHEELS.glob("*/**/*.onnx")):
        yield path.stem if path.stem != "model" else path.relative_to(WHEELS).parts[0], path, {}
    yield f"generated, {5 * LAYERS} nodes", _generated(folder / "generated.onnx"), {}


def _generated(path: Path) -> Path:
    """A chain of Conv, BatchNormalization, scalar Mul and Add, Relu."""
    rng = np.random.default_rng(0)
    lines, weights = [], {}
    for i in range(LAYERS):
        lines.append(f"c{i} = Conv(v{i}, k{i}) n{i} = BatchNormalization(c{i}, s, o, m, w) a{i} = Mul(n{i}, f{i})")
        lines.append(f"b{i} = Add(a{i}, g{i}) v{i + 1} = Relu(b{i})")
        weights[f"k{i}"] = rng.standard_normal((8, 8, 1, 1)) / 3
        weights |= {f"f{i}": np.array([1.1 + i / LAYERS]), f"g{i}": np.array([0.1 + i])}
    weights |= {name: rng.random(8) + 0.5 for name in "somw"}
    text = f"g (float[1,8,16,16] v0) => (float[1,8,16,16] v{LAYERS}) {{ {' '.join(lines)} }}"
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    for name, array in weights.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    onnx.save(proto, path)
    return path


def _case(name: str, path: Path, shapes: dict[str, list[int]], folder: Path) -> Case:
    case = Case(name, _count(path))
    for tool in (OURS, *PEERS):
        made = _optimize(tool, path, folder / f"{tool}.onnx")
        if made is not None:
            case.results.append(made)
    _time(case, path, _feeds(path, shapes))
    return case


def _feeds(path: Path, shapes: dict[str, list[int]]) -> Sample:
    try:
        return runnable_feeds(path, load_model(path).model, shapes=shapes).arrays
    except UsageError:  # some exporters write -1 where a dimension is dynamic
        rng = np.random.default_rng(0)
        return {name: rng.random(shape, np.float32) for name, shape in shapes.items()}


def _optimize(tool: str, path: Path, output: Path) -> Result | None:
    """What the tool makes of a model; None when it is not installed or fails."""
    output.unlink(missing_ok=True)
    script = Path(__file__).with_name("peers_fusion.py")
    python = sys.executable if tool == OURS else _python()
    done = subprocess.run([python, script, tool, path, output], capture_output=True, text=True, check=False)
    if done.returncode or not output.exists():
        return None
    return Result(tool, output, json.loads(done.stdout.splitlines()[-1])["cpu_s"], *_count(output))


def _count(path: Path) -> tuple[int, int]:
    """Nodes of the main graph, and of all graphs."""
    graph = onnx.load(path, load_external_data=False).graph
    return len(graph.node), _all_nodes(graph)


def _all_nodes(graph: onnx.GraphProto) -> int:
    inner = [a.g for node in graph.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return len(graph.node) + sum(map(_all_nodes, inner))


def _time(case: Case, original: Path, feeds: Sample) -> None:
    """All results in one run; a result that does not load spoils the others' and is timed apart from them."""
    try:
        timings = compare_many(original, [result.path for result in case.results], feeds, budget_s=SECONDS)
    except ModelOptError:
        timings = []
    for result, timing in zip(case.results, timings, strict=False):
        result.timing = timing


def _rows(case: Case) -> Iterator[tuple[object, ...]]:
    yield case.name, "", case.original[0], case.original[1], "", "1.000", ""
    for result in case.results:
        timing = result.timing
        latency = ("failed", "") if timing is None else _latency(timing)
        tool = f"**{result.tool}**" if result.tool == OURS else result.tool
        yield "", tool, result.nodes, result.all_nodes, f"{result.seconds:.3f}", *latency


def _latency(timing: LatencyComparison) -> tuple[str, str]:
    return f"{timing.ratio:.3f}", f"{timing.ratio_low:.3f}-{timing.ratio_high:.3f}"


def _verdict(cases: list[Case]) -> str:
    """The goals in figures."""
    ours = {case.name: case.results[0] for case in cases if case.results and case.results[0].tool == OURS}
    beaten = [c.name for c in cases if c.peers and ours[c.name].all_nodes > min(p.all_nodes for p in c.peers)]
    main = [c.name for c in cases if c.peers and ours[c.name].nodes > min(p.nodes for p in c.peers)]
    slim = [(c.name, p) for c in cases for p in c.peers if p.tool == "onnxslim"]
    slow = [name for name, peer in slim if ours[name].seconds > peer.seconds]
    pairs = [(ours[c.name].timing, [p.timing for p in c.peers if p.timing is not None]) for c in cases]
    known = [(mine, peers) for mine, peers in pairs if mine is not None and peers]
    gains = [min(p.ratio for p in peers) / mine.ratio for mine, peers in known]
    slower = [c.name for c in cases if (t := ours[c.name].timing) is not None and t.ratio_low > 1.0]
    lines = [
        f"Models where a peer leaves fewer nodes: {', '.join(beaten) or 'none'}"
        f" (in the main graph alone: {', '.join(main) or 'none'}).",
        f"Models where onnxslim takes less time: {', '.join(slow) or 'none'}.",
        f"Models slower than the original, by the interval: {', '.join(slower) or 'none'}.",
    ]
    if gains:
        mean = math.exp(sum(map(math.log, gains)) / len(gains))
        lines.append(f"Speed-up over the best peer of each model, geometric mean: {mean:.3f}.")
    return "\n".join(lines)

import numpy as np
import pytest

from modelopt_cli.data import bind, open_dataset
from modelopt_cli.errors import DataError, ModelError, UsageError
from modelopt_cli.evaluation import agreement, compare, evaluate
from modelopt_cli.graph.io import load_model, model_bytes, save_model
from modelopt_cli.testing import ArrayDataset, model_from_text

TEXT = "g (float[batch,4] x) => (float[batch,3] scores, float[batch,4] kept) { scores = MatMul(x, w) kept = Neg(x) }"
WEIGHTS = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
X = np.random.default_rng(1).standard_normal((50, 4)).astype(np.float32)
LABELS = (X @ WEIGHTS).argmax(axis=1)


@pytest.fixture(scope="module")
def original():
    return model_from_text(TEXT, w=WEIGHTS)


@pytest.fixture(scope="module")
def rounded():
    return model_from_text(TEXT, w=np.round(WEIGHTS))


def test_one_pass_gives_agreement_and_accuracy(original, rounded):
    found = compare(original, rounded, ArrayDataset({"x": X}, LABELS), "top1")
    right = (X @ np.round(WEIGHTS)).argmax(axis=1) == LABELS
    assert found.samples == 50 and [o.output for o in found.agreement] == ["scores", "kept"]
    scores, kept = found.agreement
    noise = ((X @ WEIGHTS - X @ np.round(WEIGHTS)) ** 2).sum()
    assert scores.sqnr_db == pytest.approx(10 * np.log10(((X @ WEIGHTS) ** 2).sum() / noise), abs=1e-3)
    assert scores.top1 == pytest.approx(right.mean()) and kept.sqnr_db == 200
    assert (found.accuracy.original, found.accuracy.result) == (1.0, pytest.approx(right.mean()))
    assert found.accuracy.drop_low < found.accuracy.drop < found.accuracy.drop_high


def test_paths_bytes_and_graphs_are_models_alike(original, rounded, tmp_path):
    save_model(original, tmp_path / "m.onnx")
    data = ArrayDataset({"x": X})
    assert agreement(tmp_path / "m.onnx", model_bytes(rounded), data) == agreement(original, rounded, data)


def test_labels_are_not_used_unless_asked_for(original, rounded):
    assert compare(original, rounded, ArrayDataset({"x": X}, LABELS)).accuracy is None


def test_an_error_that_grows_is_a_drop(original, rounded):
    truth = X @ WEIGHTS
    found = compare(original, rounded, ArrayDataset({"x": X}, truth), "mae").accuracy
    assert found.original == pytest.approx(0, abs=1e-6) and found.drop == pytest.approx(found.result, abs=1e-6)
    assert 0 < found.drop_low < found.drop < found.drop_high and found.significant


def test_max_samples_spreads(original, rounded):
    few = compare(original, rounded, ArrayDataset({"x": X}, LABELS), "top1", max_samples=10)
    chosen = np.arange(10) * 5
    assert few.samples == few.accuracy.samples == 10
    assert few.accuracy.result == pytest.approx(((X @ np.round(WEIGHTS)).argmax(axis=1) == LABELS)[chosen].mean())


def test_evaluate_is_the_accuracy_of_one_model(original, rounded):
    data = ArrayDataset({"x": X}, LABELS)
    assert evaluate(original, data, "top1") == 1.0
    assert evaluate(rounded, data, "top1") == compare(original, rounded, data, "top1").accuracy.result


def test_repeats_that_fill_a_fixed_batch_are_not_counted(tmp_path):
    text = "g (float[8,4] x) => (float[8,3] y) { y = MatMul(x, w) }"
    fixed, coarse = model_from_text(text, w=WEIGHTS), model_from_text(text, w=np.round(WEIGHTS))
    free = [model_from_text(text.replace("8,", "batch,"), w=w) for w in (WEIGHTS, np.round(WEIGHTS))]
    np.savez(tmp_path / "a.npz", x=X, labels=LABELS)  # 50 = 6 * 8 + 2
    dataset = open_dataset(tmp_path / "a.npz")
    in_batches = compare(fixed, coarse, bind(dataset, fixed), "top1")
    one_by_one = compare(*free, bind(dataset, free[0]), "top1")
    assert in_batches.accuracy == one_by_one.accuracy
    assert in_batches.agreement[0].sqnr_db == pytest.approx(one_by_one.agreement[0].sqnr_db, abs=1e-4)


def test_mask_overlap_where_asked(original, rounded):
    scores, _ = agreement(original, rounded, ArrayDataset({"x": X}), mask_threshold=0.5)
    a, b = X @ WEIGHTS > 0.5, X @ np.round(WEIGHTS) > 0.5
    assert scores.mask_iou == pytest.approx((a & b).sum() / (a | b).sum())


def test_a_metric_without_its_truth(original, rounded):
    with pytest.raises(DataError, match="metric top1 needs labels"):
        compare(original, rounded, ArrayDataset({"x": X}), "top1")
    with pytest.raises(DataError, match="no member 'boxes'"):
        compare(original, rounded, ArrayDataset({"x": X}), "f1-detection")


def test_an_unknown_metric(original, rounded):
    with pytest.raises(UsageError, match="no metric is called 'accuracy'"):
        compare(original, rounded, ArrayDataset({"x": X}, LABELS), "accuracy")


def test_data_that_does_not_run(original, rounded):
    with pytest.raises(DataError, match=r"does not run on 'x' float32\[1, 5\]"):
        compare(original, rounded, ArrayDataset({"x": np.zeros((2, 5), np.float32)}))


def test_a_result_that_does_not_load(original):
    with pytest.raises(ModelError):
        compare(original, b"nonsense", ArrayDataset({"x": X}))


def test_the_real_sentiment_model_agrees_with_itself_and_with_its_labels(zoo):
    path = zoo / "minilm_sentiment" / "model.onnx"
    data = bind(open_dataset(zoo / "minilm_sentiment" / "eval.npz"), load_model(path).model)
    found = compare(path, path, data, "top1", max_samples=100)
    assert found.agreement[0].top1 == 1 and 0.65 < found.accuracy.original < 0.9

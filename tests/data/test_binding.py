from pathlib import Path

import numpy as np
import pytest

from modelopt_cli.data import InputSpec, bind, open_dataset, signature
from modelopt_cli.errors import DataError
from modelopt_cli.testing import model_from_text

IMAGE = (InputSpec("image", np.dtype("float32"), ("batch", 3, 4, 4)),)


def saved(tmp_path, **arrays):
    np.savez(tmp_path / "data.npz", **arrays)
    return open_dataset(tmp_path / "data.npz")


def images(count=5, dtype=np.float32):
    return np.random.default_rng(0).standard_normal((count, 3, 4, 4)).astype(dtype)


def test_signature_leaves_out_inputs_with_a_default():
    model = model_from_text(
        "g (float[batch,3] x, int64[?,4] ids, float[3] w) => (float[batch,3] y) { y = Add(x, w) }",
        w=np.zeros(3, np.float32),
    )
    assert [str(s) for s in signature(model)] == ["float32[batch, 3]", "int64[?, 4]"]


def test_members_become_inputs_one_sample_at_a_time(tmp_path):
    data = bind(saved(tmp_path, image=images(), labels=np.arange(5), boxes=np.zeros((5, 2, 5))), IMAGE)
    samples = list(data)
    assert [set(s) for s in samples] == [{"image"}] * 5
    np.testing.assert_array_equal(np.concatenate([s["image"] for s in samples]), images())
    np.testing.assert_array_equal(data.labels, np.arange(5))
    assert data.extra("boxes").shape == (5, 2, 5) and len(data.take(2)) == 2


@pytest.mark.parametrize(("have", "want"), [("float16", "float32"), ("int32", "int64")])
def test_safe_widening(tmp_path, have, want):
    array = images(dtype=have)
    sample = next(iter(bind(saved(tmp_path, x=array), (InputSpec("x", np.dtype(want), (None, 3, 4, 4)),))))
    assert sample["x"].dtype == want
    np.testing.assert_array_equal(sample["x"], array[:1].astype(want))


@pytest.mark.parametrize(("have", "want"), [("float64", "float32"), ("uint8", "float32"), ("int64", "int32")])
def test_other_types_are_refused(tmp_path, have, want):
    spec = InputSpec("x", np.dtype(want), (None, 3, 4, 4))
    with pytest.raises(
        DataError, match=rf"takes {want}\[\?, 3, 4, 4\], the data holds {have}\[5, 3, 4, 4\]: another type"
    ):
        bind(saved(tmp_path, x=images(dtype=have)), (spec,))


def test_wrong_name_lists_both_sides_and_suggests(tmp_path):
    with pytest.raises(DataError) as caught:
        bind(saved(tmp_path, imgae=images()), IMAGE)
    assert "'image' float32[batch, 3, 4, 4]; the data holds 'imgae'" in str(caught.value)
    assert "did you mean 'imgae'?" in caught.value.hint


@pytest.mark.parametrize("unnamed", ["npy", "arr_0"])
def test_an_unnamed_array_goes_to_a_model_of_one_input(tmp_path, unnamed):
    if unnamed == "npy":
        np.save(tmp_path / "a.npy", images())
        dataset = open_dataset(tmp_path / "a.npy")
    else:
        np.savez(tmp_path / "a.npz", images(), labels=np.arange(5))
        dataset = open_dataset(tmp_path / "a.npz")
    np.testing.assert_array_equal(next(iter(bind(dataset, IMAGE)))["image"], images()[:1])


def test_an_unnamed_array_is_refused_by_a_model_of_two_inputs(tmp_path):
    np.save(tmp_path / "a.npy", images())
    with pytest.raises(DataError, match=r"no array for input 'image'.*holds '<unnamed>'"):
        bind(open_dataset(tmp_path / "a.npy"), (*IMAGE, InputSpec("size", np.dtype("int64"), (None, 2))))


def test_rank_and_dimensions_show_both_sides(tmp_path):
    with pytest.raises(
        DataError, match=r"takes float32\[batch, 3, 4, 4\].*holds float32\[5, 4, 4, 3\]: other dimensions"
    ):
        bind(saved(tmp_path, image=images().transpose(0, 2, 3, 1).copy()), IMAGE)
    with pytest.raises(DataError, match=r"holds float32\[5, 48\]: another number of axes"):
        bind(saved(tmp_path, image=images().reshape(5, 48)), IMAGE)


def test_inputs_of_different_lengths(tmp_path):
    specs = (*IMAGE, InputSpec("size", np.dtype("int64"), (None, 2)))
    with pytest.raises(DataError, match="differ in the number of samples: 'image' 5, 'size' 4"):
        bind(saved(tmp_path, image=images(), size=np.ones((4, 2), np.int64)), specs)


def test_a_member_that_the_model_does_not_take_may_have_any_length(tmp_path):
    assert len(bind(saved(tmp_path, image=images(), classes=np.arange(1000)), IMAGE).take(3)) == 3


def test_a_model_may_take_an_input_called_label(tmp_path):
    specs = (InputSpec("label", np.dtype("int64"), (None,)),)
    data = bind(saved(tmp_path, label=np.arange(5)), specs)
    assert [int(s["label"][0]) for s in data] == list(range(5)) and data.labels is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_name_input_and_sample(tmp_path, value):
    array = images()
    array[3, 1, 0, 0] = value
    with pytest.raises(DataError, match="input 'image' has NaN or Inf in sample 3"):
        list(bind(saved(tmp_path, image=array), IMAGE))
    with pytest.raises(DataError, match="in sample 3"):  # 0, 1, 3: the index in the file, not in the choice
        list(bind(saved(tmp_path, image=array), IMAGE).take(3))


def test_a_model_without_batch_dimension_takes_rows(tmp_path):
    data = bind(saved(tmp_path, x=images()), (InputSpec("x", np.dtype("float32"), (3, 4, 4)),))
    assert [s["x"].shape for s in data] == [(3, 4, 4)] * 5


def test_a_fixed_batch_is_filled_up_with_the_last_sample(tmp_path):
    data = bind(saved(tmp_path, x=images()), (InputSpec("x", np.dtype("float32"), (2, 3, 4, 4)),))
    batches = [s["x"] for s in data]
    assert data.batch_size == 2 and len(data) == 5
    np.testing.assert_array_equal(np.concatenate(batches), images()[[0, 1, 2, 3, 4, 4]])


def test_files_of_a_folder_may_be_single_samples_of_their_own_size(tmp_path):
    spec = InputSpec("x", np.dtype("float32"), (None, 3, "h", "w"))
    for name, size in (("a", 4), ("b", 6)):
        np.savez(tmp_path / f"{name}.npz", x=np.full((3, size, size), size, np.float32), label=size)
    data = bind(open_dataset(tmp_path), (spec,))
    assert [s["x"].shape for s in data] == [(1, 3, 4, 4), (1, 3, 6, 6)]
    np.testing.assert_array_equal(data.labels, [4, 6])


def test_real_archives_bind_to_their_models(zoo):
    from modelopt_cli.graph.io import load_model

    data = bind(open_dataset(zoo / "ppocr_det" / "calib.f16.npz"), load_model(zoo / "ppocr_det" / "model.onnx").model)
    sample = next(iter(data))
    assert len(data) == 24 and sample["x"].shape == (1, 3, 480, 480) and sample["x"].dtype == np.float32


def test_a_scalar_input_is_fed_an_array(tmp_path: Path) -> None:
    model = model_from_text("g (float[n] x, int64 rate) => (float[n] y) { r = Cast<to = 1>(rate)  y = Mul(x, r) }")
    np.savez(tmp_path / "d.npz", x=np.ones((2, 4), np.float32), rate=np.array([8, 16]))
    samples = list(bind(open_dataset(tmp_path / "d.npz"), model))
    assert [type(sample["rate"]) for sample in samples] == [np.ndarray] * 2  # the runtime takes no NumPy scalars
    assert [(int(sample["rate"]), sample["rate"].shape) for sample in samples] == [(8, ()), (16, ())]

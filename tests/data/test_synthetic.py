import numpy as np
import pytest

from modelopt_cli.data import InputSpec, RandomDataset
from modelopt_cli.errors import UsageError

TOKENS = (
    InputSpec("ids", np.dtype("int64"), ("batch", "seq")),
    InputSpec("attention_mask", np.dtype("int64"), ("batch", "seq")),
    InputSpec("x", np.dtype("float16"), ("batch", 3)),
)
SHAPES = {"ids": (1, 5), "attention_mask": (1, 5)}


def test_samples_are_legal_and_repeatable():
    data = RandomDataset(TOKENS, 20, seed=3, shapes=SHAPES)
    samples = list(data)
    assert len(samples) == len(data) == 20
    ids = np.concatenate([s["ids"] for s in samples])
    assert ids.shape == (20, 5) and set(np.unique(ids)) == {0, 1}
    assert all((s["attention_mask"] == 1).all() for s in samples)
    x = np.concatenate([s["x"] for s in samples])
    assert x.dtype == np.float16 and x.shape == (20, 3) and 0.5 < x.std() < 1.5
    np.testing.assert_array_equal(x, np.concatenate([s["x"] for s in data]))
    np.testing.assert_array_equal(x[:4], np.concatenate([s["x"] for s in data.take(4)]))


def test_seed_and_shapes_are_part_of_the_digest():
    digests = {
        RandomDataset(TOKENS, 2, 0, SHAPES).digest(),
        RandomDataset(TOKENS, 2, 1, SHAPES).digest(),
        RandomDataset(TOKENS, 2, 0, SHAPES | {"ids": (1, 6)}).digest(),
    }
    assert len(digests) == 3 and RandomDataset(TOKENS, 2, 0, SHAPES).digest() in digests


def test_free_dimensions_must_be_given():
    with pytest.raises(UsageError, match=r"'ids' int64\[batch, seq\] has free dimensions \(--shape ids=1xN\)"):
        RandomDataset(TOKENS, 2)

"""Writes the models ``*.tf.onnx``: one layer of each kind of transformer, random weights, by TensorFlow and tf2onnx.

Run in an environment with ``tensorflow-cpu==2.21.0`` and ``tf2onnx==1.17.0``: ``python -m benchmarks.exporters
tensorflow``. The tests need neither. Attention is spelled as in the public TensorFlow code of BERT and GPT-2, and as
Keras' own layer.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf2onnx
from tidy import keep

WIDTH, HEADS, TOKENS, VOCABULARY = 16, 2, 32, 20
DEPTH = WIDTH // HEADS
OPSET = 15
HERE = Path(__file__).resolve().parent
layers = tf.keras.layers


class Transformer:
    """Weights by name, made at the first use."""

    def __init__(self) -> None:
        self.made: dict[str, np.ndarray] = {}
        self.random = np.random.default_rng(0)

    def weight(self, name: str, *shape: int) -> np.ndarray:
        if name not in self.made:
            self.made[name] = (self.random.standard_normal(shape) / 4).astype(np.float32)
        return self.made[name]

    def dense(self, x: tf.Tensor, name: str, size: int = WIDTH) -> tf.Tensor:
        return tf.matmul(x, self.weight(name, x.shape[-1], size)) + self.weight(f"{name}_bias", size)

    def embed(self, ids: tf.Tensor) -> tf.Tensor:
        words = tf.gather(self.weight("words", VOCABULARY, WIDTH), ids)
        return words + tf.gather(self.weight("places", TOKENS, WIDTH), tf.range(tf.shape(ids)[1]))

    def norm(self, x: tf.Tensor, name: str) -> tf.Tensor:
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        gain, bias = self.weight(f"{name}_gain", WIDTH), self.weight(f"{name}_shift", WIDTH)
        return tf.nn.batch_normalization(x, mean, variance, bias, gain, 1e-5)

    def split(self, x: tf.Tensor) -> tf.Tensor:
        return tf.transpose(tf.reshape(x, (tf.shape(x)[0], -1, HEADS, DEPTH)), (0, 2, 1, 3))

    def attend(self, x: tf.Tensor, other: tf.Tensor, name: str, far: tf.Tensor | None) -> tf.Tensor:
        q, k, v = (self.split(self.dense(of, name + p)) for p, of in (("q", x), ("k", other), ("v", other)))
        scores = tf.matmul(q, k, transpose_b=True) / tf.sqrt(tf.cast(DEPTH, tf.float32))
        scores = scores if far is None else scores + far
        mixed = tf.transpose(tf.matmul(tf.nn.softmax(scores, axis=-1), v), (0, 2, 1, 3))
        return self.dense(tf.reshape(mixed, (tf.shape(x)[0], -1, WIDTH)), name + "o")

    def feed(self, x: tf.Tensor, activation: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        return self.dense(activation(self.dense(x, "up", 2 * WIDTH)), "down")


def gelu(x: tf.Tensor) -> tf.Tensor:
    return x * 0.5 * (1.0 + tf.math.erf(x / tf.cast(tf.sqrt(2.0), x.dtype)))


def quick_gelu(x: tf.Tensor) -> tf.Tensor:
    return tf.nn.gelu(x, approximate=True)


def bert(net: Transformer, ids: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    far = (1.0 - tf.cast(mask[:, tf.newaxis, tf.newaxis, :], tf.float32)) * -10000.0
    x = net.norm(net.embed(ids), "n0")
    x = net.norm(x + net.attend(x, x, "a", far), "n1")
    return net.norm(x + net.feed(x, gelu), "n2")


def gpt2(net: Transformer, ids: tf.Tensor) -> tf.Tensor:
    x = net.embed(ids)
    length = tf.shape(ids)[1]
    places = tf.range(length)
    allowed = tf.cast(places[:, tf.newaxis] >= places[tf.newaxis, :], tf.float32)
    n = net.norm(x, "n1")
    x = x + net.attend(n, n, "a", (1.0 - allowed)[tf.newaxis, tf.newaxis] * -10000.0)
    return net.norm(x + net.feed(net.norm(x, "n2"), quick_gelu), "n3")


def decoder(net: Transformer, ids: tf.Tensor, hidden: tf.Tensor) -> tf.Tensor:
    x = net.embed(ids)
    x = x + net.attend(net.norm(x, "n1"), hidden, "c", None)
    return net.norm(x + net.feed(net.norm(x, "n2"), gelu), "n3")


def vit() -> tf.keras.Model:
    """Keras' own layers: attention by Einsum."""
    pixels = layers.Input((8, 8, 3), name="pixels")
    patches = layers.Reshape((4, WIDTH))(layers.Conv2D(WIDTH, 4, 4)(pixels))
    x = layers.LayerNormalization()(patches)
    x = layers.Add()([patches, layers.MultiHeadAttention(HEADS, DEPTH)(x, x)])
    up = layers.Dense(2 * WIDTH, activation=quick_gelu)(layers.LayerNormalization()(x))
    return tf.keras.Model(pixels, layers.LayerNormalization()(layers.Add()([x, layers.Dense(WIDTH)(up)])))


def main() -> None:
    ids = tf.TensorSpec((None, None), tf.int64, name="ids")
    mask = tf.TensorSpec((None, None), tf.int64, name="mask")
    hidden = tf.TensorSpec((None, None, WIDTH), tf.float32, name="hidden")
    functions = {"bert": (bert, [ids, mask]), "gpt2": (gpt2, [ids]), "decoder": (decoder, [ids, hidden])}
    for name, (function, signature) in functions.items():
        net = Transformer()
        traced = tf.function(lambda *inputs, function=function, net=net: function(net, *inputs), signature)
        proto, _ = tf2onnx.convert.from_function(traced, signature, opset=OPSET)
        keep(proto, name, "tf", HERE)
    tf.keras.utils.set_random_seed(0)
    model = vit()
    signature = [tf.TensorSpec((None, 8, 8, 3), tf.float32, name="pixels")]
    proto, _ = tf2onnx.convert.from_function(tf.function(model, signature), signature, opset=OPSET)
    keep(proto, "vit", "tf", HERE)


if __name__ == "__main__":
    main()

"""Writes the models beside this file: one layer of each kind of transformer, random weights, by PyTorch's exporters.

Run in an environment with ``torch==2.13.0``, ``transformers==5.24.0`` and ``onnxscript``: ``python export.py``. The
tests need none of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import onnx
import torch
import transformers as hf
from torch import nn

HERE = Path(__file__).resolve().parent
SIZES = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 32}
IDS, HIDDEN = torch.randint(0, 20, (2, 6)), torch.randn(2, 6, 16)
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
PIXELS = torch.randn(2, 3, 8, 8)
TOKENS = {0: "batch", 1: "length"}
Inputs = dict[str, tuple[torch.Tensor, dict[int, str]]]


class Call(nn.Module):
    """A module whose forward is any function of another one."""

    def __init__(self, module: nn.Module, function: Callable[..., object]) -> None:
        super().__init__()
        self.module, self.function = module, function

    def forward(self, *inputs: torch.Tensor) -> object:
        return self.function(self.module, *inputs)


def bert(attention: str) -> tuple[nn.Module, Inputs]:
    config = hf.BertConfig(vocab_size=20, max_position_embeddings=32, attn_implementation=attention, **SIZES)
    model = hf.BertModel(config, add_pooling_layer=False)
    inputs = {"ids": (IDS, TOKENS), "mask": (MASK, TOKENS)}
    return Call(model, lambda m, ids, mask: m(input_ids=ids, attention_mask=mask)[0]), inputs


def gpt2(attention: str) -> tuple[nn.Module, Inputs]:
    config = hf.GPT2Config(vocab_size=20, n_positions=32, n_embd=16, n_layer=1, n_head=2, attn_implementation=attention)
    inputs = {"ids": (IDS, TOKENS), "mask": (MASK, TOKENS)}
    return Call(hf.GPT2Model(config), lambda m, ids, mask: m(ids, attention_mask=mask, use_cache=False)[0]), inputs


def vit(attention: str) -> tuple[nn.Module, Inputs]:
    config = hf.ViTConfig(image_size=8, patch_size=4, attn_implementation=attention, **SIZES)
    model = hf.ViTModel(config, add_pooling_layer=False)
    return Call(model, lambda m, pixels: m(pixels)[0]), {"pixels": (PIXELS, {0: "batch"})}


def swin(attention: str) -> tuple[nn.Module, Inputs]:
    config = hf.SwinConfig(image_size=8, patch_size=1, embed_dim=8, depths=[2], num_heads=[2], window_size=4)
    model = hf.SwinModel(config, add_pooling_layer=False)
    for name, table in model.named_parameters():
        if "relative_position_bias_table" in name:
            nn.init.normal_(table)  # zeros before training, and then not there
    return Call(model, lambda m, pixels: m(pixels)[0]), {"pixels": (PIXELS, {0: "batch"})}


def t5_decoder(attention: str) -> tuple[nn.Module, Inputs]:
    config = hf.T5Config(vocab_size=20, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, use_cache=False)
    keys = {0: "batch", 1: "keys"}
    inputs = {"ids": (IDS, TOKENS), "hidden": (HIDDEN, keys), "mask": (MASK, keys)}
    return Call(
        hf.T5Model(config).decoder,
        lambda m, ids, hidden, mask: m(ids, encoder_hidden_states=hidden, encoder_attention_mask=mask)[0],
    ), inputs


def whisper(attention: str) -> hf.WhisperModel:
    size = {"d_model": 16, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_mel_bins": 4}
    layers = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1, "vocab_size": 20}
    length = {"max_source_positions": 8, "max_target_positions": 32}
    return hf.WhisperModel(hf.WhisperConfig(**size, **layers, **tokens, **length, attn_implementation=attention))


def whisper_encoder(attention: str) -> tuple[nn.Module, Inputs]:
    return Call(whisper(attention).encoder, lambda m, mel: m(mel)[0]), {"mel": (torch.randn(2, 4, 16), {0: "batch"})}


def whisper_decoder(attention: str) -> tuple[nn.Module, Inputs]:
    inputs = {"ids": (IDS, TOKENS), "hidden": (torch.randn(2, 8, 16), {0: "batch"})}

    def decode(model: nn.Module, ids: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        return model(ids, encoder_hidden_states=hidden, use_cache=False)[0]

    return Call(whisper(attention).decoder, decode), inputs


def llama(attention: str) -> tuple[nn.Module, Inputs]:
    config = hf.LlamaConfig(vocab_size=20, num_key_value_heads=1, attn_implementation=attention, **SIZES)
    inputs = {"ids": (IDS, TOKENS), "mask": (MASK, TOKENS)}
    return Call(hf.LlamaModel(config), lambda m, ids, mask: m(ids, attention_mask=mask, use_cache=False)[0]), inputs


def llama_past(attention: str) -> tuple[nn.Module, Inputs]:
    config = hf.LlamaConfig(vocab_size=20, num_key_value_heads=1, attn_implementation=attention, **SIZES)

    def step(m: nn.Module, ids: torch.Tensor, mask: torch.Tensor, *past: torch.Tensor) -> object:
        cache = hf.DynamicCache()
        cache.update(past[0], past[1], 0)
        found = m(ids, attention_mask=mask, past_key_values=cache, use_cache=True)
        return found[0], cache.layers[0].keys, cache.layers[0].values

    past = {name: (torch.randn(2, 1, 5, 8), {0: "batch", 2: "past"}) for name in ("past_key", "past_value")}
    mask = (torch.ones(2, 11, dtype=torch.long), {0: "batch", 1: "total"})
    return Call(hf.LlamaModel(config), step), {"ids": (IDS, TOKENS), "mask": mask, **past}


MODELS = (bert, gpt2, vit, swin, t5_decoder, whisper_encoder, whisper_decoder, llama, llama_past)


def write(make: Callable[[str], tuple[nn.Module, Inputs]], *, new: bool) -> None:
    """By the newer exporter with the attention that it has most trouble with, by the older one with the plain one."""
    torch.manual_seed(0)
    module, inputs = make("sdpa" if new else "eager")
    path = HERE / f"{make.__name__}.{'new' if new else 'old'}.onnx"
    tensors = tuple(tensor for tensor, _ in inputs.values())
    names = {
        "input_names": list(inputs),
        "output_names": ["y", "present_key", "present_value"][: 3 if "past" in path.name else 1],
    }
    with torch.no_grad():
        if new:
            sizes = {
                name: torch.export.Dim(name, min=1, max=64) for _, axes in inputs.values() for name in axes.values()
            }
            dims = tuple({axis: sizes[name] for axis, name in axes.items()} for _, axes in inputs.values())
            made = torch.onnx.export(
                module.eval(), tensors, dynamo=True, verbose=False, dynamic_shapes=(dims,), **names
            )
            made.save(path)
        else:
            axes = {name: axes for name, (_, axes) in inputs.items()}
            torch.onnx.export(module.eval(), tensors, path, dynamo=False, opset_version=17, dynamic_axes=axes, **names)
    onnx.save(_bare(onnx.load(path)), path)


def _bare(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without the traces of the source, which are most of it."""
    del model.metadata_props[:], model.graph.metadata_props[:]
    model.doc_string = ""
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    return model


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for make in MODELS:
        for new in (False, True):
            if (make, new) != (whisper_decoder, False):  # the older exporter has no torch.diff
                write(make, new=new)

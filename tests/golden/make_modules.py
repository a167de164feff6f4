"""Records what PyTorch's layers print, draw, compute and differentiate, for tests/nn/test_layers.py.

Run with PyTorch installed: python tests/golden/make_modules.py
"""

from __future__ import annotations

import json
import pathlib
import warnings

INPUTS = {
    "row": "(2, 3)", "seq": "(2, 4, 6)", "image": "(2, 4, 6, 6)", "volume": "(1, 2, 4, 4, 4)", "steps": "(5, 2, 4)",
}

# constructor -> name of its input, or of several
LAYERS = {
    "nn.Linear(3, 4)": "row",
    "nn.Linear(3, 2, bias=False)": "row",
    "nn.Bilinear(3, 3, 2)": "row row",
    "nn.Identity(3)": "row",
    "nn.Conv1d(4, 6, 3, padding=1, groups=2)": "seq",
    "nn.Conv2d(4, 3, (3, 2), stride=2, padding=1, dilation=(1, 2))": "image",
    "nn.Conv2d(4, 4, 3, padding='same', groups=4, bias=False)": "image",
    "nn.Conv2d(4, 2, 3, padding=1, padding_mode='reflect')": "image",
    "nn.Conv3d(2, 2, 2)": "volume",
    "nn.ConvTranspose1d(4, 2, 3, stride=2, output_padding=1)": "seq",
    "nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, groups=2)": "image",
    "nn.ConvTranspose3d(2, 1, 2)": "volume",
    "nn.MaxPool1d(2)": "seq", "nn.MaxPool2d(3, stride=2, padding=1)": "image", "nn.MaxPool3d(2)": "volume",
    "nn.AvgPool1d(2)": "seq", "nn.AvgPool2d(2, ceil_mode=True)": "image", "nn.AvgPool3d(2)": "volume",
    "nn.AdaptiveAvgPool1d(3)": "seq", "nn.AdaptiveAvgPool2d((1, 4))": "image", "nn.AdaptiveAvgPool3d(2)": "volume",
    "nn.AdaptiveMaxPool1d(3)": "seq", "nn.AdaptiveMaxPool2d(4)": "image", "nn.LPPool2d(2, 2)": "image",
    "nn.ZeroPad2d((1, 0, 2, 0))": "image", "nn.ConstantPad1d(1, 0.5)": "seq", "nn.ReflectionPad2d(1)": "image",
    "nn.ReplicationPad1d((2, 1))": "seq", "nn.CircularPad2d(1)": "image",
    "nn.ReLU(inplace=False)": "row", "nn.ReLU6()": "row", "nn.LeakyReLU(0.2)": "row", "nn.PReLU(4)": "image",
    "nn.ELU(alpha=0.5)": "row", "nn.CELU()": "row", "nn.SELU()": "row", "nn.GELU()": "row",
    "nn.GELU(approximate='tanh')": "row", "nn.SiLU()": "row", "nn.Mish()": "row", "nn.Hardtanh(-0.5, 0.25)": "row",
    "nn.Hardsigmoid()": "row", "nn.Hardswish()": "row", "nn.Hardshrink()": "row", "nn.Softshrink(0.3)": "row",
    "nn.Softplus(beta=2)": "row", "nn.Softsign()": "row", "nn.Tanhshrink()": "row", "nn.Threshold(0.1, 0.7)": "row",
    "nn.LogSigmoid()": "row", "nn.Sigmoid()": "row", "nn.Tanh()": "row", "nn.GLU()": "seq",
    "nn.Softmax(dim=1)": "row", "nn.LogSoftmax(dim=-1)": "row", "nn.Softmin(dim=0)": "row", "nn.Softmax2d()": "image",
    "nn.BatchNorm1d(4)": "seq", "nn.BatchNorm2d(4, momentum=None, affine=False)": "image",
    "nn.BatchNorm3d(2)": "volume",
    "nn.InstanceNorm1d(4)": "seq", "nn.InstanceNorm2d(4, affine=True, track_running_stats=True)": "image",
    "nn.GroupNorm(2, 4)": "image", "nn.LayerNorm(6)": "image", "nn.LayerNorm((6, 6), bias=False)": "image",
    "nn.RMSNorm(6)": "seq", "nn.LocalResponseNorm(3)": "image",
    "nn.Flatten()": "image", "nn.Unflatten(1, (2, 2))": "image", "nn.PixelShuffle(2)": "image",
    "nn.PixelUnshuffle(3)": "image", "nn.ChannelShuffle(2)": "image", "nn.Upsample(scale_factor=2)": "image",
    "nn.UpsamplingBilinear2d(size=(3, 4))": "image", "nn.Unfold(3, padding=1)": "image",
    "nn.CosineSimilarity()": "row row", "nn.PairwiseDistance(keepdim=True)": "row row",
    "nn.RNN(4, 3, nonlinearity='relu')": "steps", "nn.LSTM(4, 3, num_layers=2, bidirectional=True)": "steps",
    "nn.LSTM(4, 3, proj_size=2)": "steps", "nn.GRU(4, 3, batch_first=True, bias=False)": "steps",
    "nn.RNNCell(3, 4)": "row", "nn.LSTMCell(3, 4)": "row", "nn.GRUCell(3, 4, bias=False)": "row",
    "nn.MultiheadAttention(4, 2)": "steps steps steps",
    "nn.MultiheadAttention(4, 2, batch_first=True, add_bias_kv=True, add_zero_attn=True)": "steps steps steps",
    "nn.TransformerEncoderLayer(4, 2, dim_feedforward=8, dropout=0.0)": "steps",
    "nn.TransformerDecoderLayer(4, 2, dim_feedforward=8, dropout=0.0, norm_first=True, activation='gelu')":
        "steps steps",
    "nn.Transformer(4, 2, 1, 2, 8, dropout=0.0)": "steps steps",
    "nn.Dropout(0.25)": "image", "nn.Dropout2d()": "image", "nn.AlphaDropout()": "row",
    "nn.MSELoss()": "row row", "nn.L1Loss(reduction='sum')": "row row", "nn.SmoothL1Loss(beta=0.5)": "row row",
    "nn.HuberLoss()": "row row", "nn.KLDivLoss(reduction='batchmean', log_target=True)": "row row",
    "nn.Embedding(7, 3, padding_idx=2)": None, "nn.EmbeddingBag(7, 3)": None,
    "nn.AdaptiveLogSoftmaxWithLoss(4, 6, [2, 4])": None,
}


def first(tensor, count=6):
    return [round(float(value), 6) for value in tensor.detach().reshape(-1)[:count].tolist()]


def tensors_of(output):
    if isinstance(output, (tuple, list)):
        return [tensor for item in output for tensor in tensors_of(item)]
    return [] if output is None else [output]


def record(torch, constructor, inputs):
    """What one layer shows; the same function serves PyTorch here and flambeau in the test."""
    torch.manual_seed(0)
    layer = eval(constructor, {"nn": torch.nn})
    shown = {"repr": repr(layer), "state": {name: [list(value.shape), first(value)]
                                            for name, value in layer.state_dict().items()}}
    if inputs is None:
        return shown
    given = [torch.randn(*eval(INPUTS[name])).requires_grad_() for name in inputs.split()]
    outputs = tensors_of(layer(*given))
    shown["outputs"] = [[list(output.shape), first(output)] for output in outputs]
    total = sum((output * output).sum() for output in outputs if output.requires_grad)
    total.backward()
    shown["grads"] = [first(tensor.grad) for tensor in given if tensor.grad is not None]
    shown["after"] = {name: first(value) for name, value in layer.named_buffers()}
    return shown


if __name__ == "__main__":
    import torch

    warnings.simplefilter("ignore")
    golden = {constructor: record(torch, constructor, inputs) for constructor, inputs in LAYERS.items()}
    path = pathlib.Path(__file__).with_name("modules.json")
    path.write_text(json.dumps(golden, indent=0, separators=(",", ":")).replace(",\n", ",").replace("[\n", "[")
                    .replace("\n]", "]") + "\n")

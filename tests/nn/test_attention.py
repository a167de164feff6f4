"""MultiheadAttention and Transformer beyond the recorded values: masks, causality, errors."""

from __future__ import annotations

import numpy as np
import pytest

import flambeau as torch
from flambeau import nn


def attention(**options):
    torch.manual_seed(0)
    return nn.MultiheadAttention(4, 2, **options)


def test_weights_are_probabilities_and_optional():
    layer, x = attention(), torch.randn(3, 2, 4)
    out, weights = layer(x, x, x)
    assert out.shape == (3, 2, 4) and weights.shape == (2, 3, 3)
    np.testing.assert_allclose(weights.sum(-1).tolist(), np.ones((2, 3)), rtol=1e-6)
    fast, nothing = layer(x, x, x, need_weights=False)
    assert nothing is None
    np.testing.assert_allclose(fast.tolist(), out.tolist(), rtol=1e-5, atol=1e-6)
    assert layer(x, x, x, average_attn_weights=False)[1].shape == (2, 2, 3, 3)


def test_batch_first_and_unbatched_agree():
    layer, first, x = attention(), attention(batch_first=True), torch.randn(3, 1, 4)
    wanted = layer(x, x, x)[0]
    flipped = x.transpose(0, 1)
    np.testing.assert_allclose(first(flipped, flipped, flipped)[0][0].tolist(), wanted[:, 0].tolist(), atol=1e-6)
    alone = x[:, 0]
    np.testing.assert_allclose(layer(alone, alone, alone)[0].tolist(), wanted[:, 0].tolist(), atol=1e-6)


@pytest.mark.parametrize("need_weights", [True, False])
def test_masks_hide_keys(need_weights):
    layer, x = attention(), torch.randn(4, 2, 4)
    causal = nn.Transformer.generate_square_subsequent_mask(4)
    assert causal[0].tolist() == [0.0, float("-inf"), float("-inf"), float("-inf")]
    wanted = layer(x[:2], x[:2], x[:2])[0][1]
    for mask in (causal, causal != 0):
        got = layer(x, x, x, attn_mask=mask, need_weights=need_weights)[0][1]
        np.testing.assert_allclose(got.tolist(), wanted.tolist(), atol=1e-6)
    hint = layer(x, x, x, attn_mask=causal, is_causal=True, need_weights=need_weights)[0][1]
    np.testing.assert_allclose(hint.tolist(), wanted.tolist(), atol=1e-6)
    padding = torch.tensor([[False, False, True, True]] * 2)
    got = layer(x, x, x, key_padding_mask=padding, need_weights=need_weights)[0][1]
    np.testing.assert_allclose(got.tolist(), wanted.tolist(), atol=1e-6)


def test_other_key_and_value_sizes():
    layer = attention(kdim=3, vdim=5)
    assert sorted(dict(layer.named_parameters())) == [
        "in_proj_bias", "k_proj_weight", "out_proj.bias", "out_proj.weight", "q_proj_weight", "v_proj_weight"]
    out, weights = layer(torch.randn(2, 1, 4), torch.randn(6, 1, 3), torch.randn(6, 1, 5))
    assert out.shape == (2, 1, 4) and weights.shape == (1, 2, 6)


def test_errors():
    layer, x = attention(), torch.randn(3, 2, 4)
    with pytest.raises(AssertionError, match=r"key shape .* does not match value shape"):
        layer(x, x, x[:2])
    with pytest.raises(AssertionError, match="expecting embedding dimension of 4, but got 6"):
        wide = torch.randn(3, 2, 6)
        layer(wide, wide, wide)
    with pytest.raises(RuntimeError, match=r"2D attn_mask is \(2, 2\), but should be \(3, 3\)"):
        layer(x, x, x, attn_mask=torch.zeros(2, 2))
    with pytest.raises(RuntimeError, match="Need attn_mask if specifying the is_causal hint"):
        layer(x, x, x, is_causal=True)
    with pytest.raises(AssertionError, match="only bool and floating types"):
        layer(x, x, x, attn_mask=torch.zeros(3, 3, dtype=torch.int64))
    with pytest.raises(AssertionError, match=r"batched 3-D or|expected `key` and `value` to be 3-D"):
        layer(x, x[0], x[0])


def test_encoder_stack_is_copies_of_its_layer():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    stack = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(4))
    assert stack.layers[0] is not layer
    assert stack.layers[0].linear1.weight.tolist() == stack.layers[1].linear1.weight.tolist()
    x = torch.randn(2, 3, 4)
    np.testing.assert_allclose(stack(x).tolist(), nn.LayerNorm(4)(layer(layer(x))).tolist(), atol=1e-6)
    with pytest.warns(UserWarning, match="batch_first was not True"):
        nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2), 1)


def test_decoder_never_looks_ahead():
    torch.manual_seed(0)
    model = nn.Transformer(4, 2, 1, 1, 8, dropout=0.0, batch_first=True)
    src, tgt = torch.randn(1, 3, 4), torch.randn(1, 5, 4)
    mask = model.generate_square_subsequent_mask(5)
    before = model(src, tgt, tgt_mask=mask)
    tgt[0, 3:] = 0.0
    after = model(src, tgt, tgt_mask=mask)
    np.testing.assert_allclose(before[0, :3].tolist(), after[0, :3].tolist(), atol=1e-6)
    assert before[0, 4].tolist() != after[0, 4].tolist()
    with pytest.raises(RuntimeError, match="feature number of src and tgt must be equal to d_model"):
        model(torch.randn(1, 3, 5), tgt)
    with pytest.raises(RuntimeError, match="batch number of src and tgt must be equal"):
        model(torch.randn(2, 3, 4), tgt)


def test_encoder_leaves_zeros_for_padding_where_pytorch_computes_without_it():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    stack, x = nn.TransformerEncoder(layer, 1).eval(), torch.randn(2, 3, 4)
    padding = torch.tensor([[False, False, True], [False, True, True]])
    with torch.no_grad():
        out = stack(x, src_key_padding_mask=padding)
        assert not out[padding].any() and out[~padding].all()
        assert stack(x, src_key_padding_mask=~padding).all()            # not at the end: computed with a mask
    assert stack(x, src_key_padding_mask=padding).all()                 # with gradients too

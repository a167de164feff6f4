"""weight_norm, spectral_norm (both forms), parametrize, prune."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import flambeau as torch
from flambeau import nn
from flambeau.nn import utils
from flambeau.nn.utils import parametrizations, parametrize, prune


def largest_singular_value(weight):
    return np.linalg.svd(weight.detach().numpy(), compute_uv=False)[0]


# ------------------------------------------------------------------------------------------------ weight norm


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norm_with_a_hook(dim):
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    weight, x = layer.weight.detach().clone(), torch.ones(1, 3)
    before = layer(x).tolist()
    utils.weight_norm(layer, dim=dim)
    assert [name for name, _ in layer.named_parameters()] == ["bias", "weight_g", "weight_v"]
    assert layer.weight_g.shape == {0: (2, 1), 1: (1, 3), None: ()}[dim]
    np.testing.assert_allclose(layer(x).tolist(), before, rtol=1e-5)
    with torch.no_grad():
        layer.weight_g.mul_(2.0)
    layer(x).sum().backward()
    assert layer.weight_v.grad is not None
    np.testing.assert_allclose(layer.weight.tolist(), (weight * 2).tolist(), rtol=1e-5)
    with pytest.raises(RuntimeError, match="Cannot register two weight_norm hooks"):
        utils.weight_norm(layer)
    utils.remove_weight_norm(layer)
    assert isinstance(layer.weight, nn.Parameter) and not layer._forward_pre_hooks
    with pytest.raises(ValueError, match="weight_norm of 'weight' not found"):
        utils.remove_weight_norm(layer)


def test_weight_norm_as_parametrization_reads_the_older_file():
    torch.manual_seed(0)
    layer = parametrizations.weight_norm(nn.Linear(3, 2))
    chain = "parametrizations.weight."
    assert list(layer.state_dict()) == ["bias", chain + "original0", chain + "original1"]
    with pytest.warns(FutureWarning, match="deprecated"):
        older = utils.weight_norm(nn.Linear(3, 2))
    layer.load_state_dict(older.state_dict())
    x = torch.ones(1, 3)
    np.testing.assert_allclose(layer(x).tolist(), older(x).tolist(), rtol=1e-6)
    assert repr(layer) == ("ParametrizedLinear(\n  in_features=3, out_features=2, bias=True\n  (parametrizations): "
                           "ModuleDict(\n    (weight): ParametrizationList(\n      (0): _WeightNorm()\n    )\n  )\n)")


# ------------------------------------------------------------------------------------------------ spectral norm


def test_spectral_norm_with_a_hook():
    torch.manual_seed(0)
    layer = utils.spectral_norm(nn.Linear(4, 3), n_power_iterations=30)
    assert list(layer.state_dict()) == ["bias", "weight_orig", "weight_u", "weight_v"]
    assert layer.state_dict()._metadata[""]["spectral_norm"] == {"weight.version": 1}
    layer(torch.ones(1, 4)).sum().backward()
    assert layer.weight_orig.grad is not None
    assert largest_singular_value(layer.weight) == pytest.approx(1, rel=1e-4)
    u = layer.weight_u.clone()
    layer.eval()(torch.ones(1, 4))
    assert layer.weight_u.tolist() == u.tolist()
    twin = utils.spectral_norm(nn.Linear(4, 3))
    twin.load_state_dict(layer.state_dict())
    utils.remove_spectral_norm(layer)
    assert list(layer.state_dict()) == ["bias", "weight"] and not layer._state_dict_hooks
    with pytest.raises(ValueError, match="Expected n_power_iterations to be positive"):
        utils.spectral_norm(nn.Linear(1, 1), n_power_iterations=0)


def test_spectral_norm_twice_before_backward():
    torch.manual_seed(0)
    layer = utils.spectral_norm(nn.Linear(4, 3))
    (layer(torch.ones(1, 4)) - layer(torch.zeros(1, 4))).sum().backward()
    assert layer.weight_orig.grad.shape == (3, 4)


def test_spectral_norm_as_parametrization():
    torch.manual_seed(0)
    layer = parametrizations.spectral_norm(nn.ConvTranspose2d(2, 3, 3), n_power_iterations=20)
    assert layer.parametrizations.weight[0]._u.shape == (3,)
    layer(torch.ones(1, 2, 4, 4))
    matrix = layer.weight.transpose(0, 1).reshape(3, -1)
    assert largest_singular_value(matrix) == pytest.approx(1, rel=1e-3)
    with pytest.raises(ValueError, match="has no parameter or buffer with name 'nothing'"):
        parametrizations.spectral_norm(nn.Linear(1, 1), "nothing")


# ------------------------------------------------------------------------------------------------ parametrize


class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).transpose(-1, -2)

    def right_inverse(self, x):
        return x.triu()


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x

    def right_inverse(self, x):
        return x / 2


def test_a_parametrized_tensor_is_computed():
    layer = nn.Linear(3, 3)
    assert parametrize.register_parametrization(layer, "weight", Symmetric()) is layer
    assert type(layer).__name__ == "ParametrizedLinear" and isinstance(layer, nn.Linear)
    assert parametrize.is_parametrized(layer, "weight") and not parametrize.is_parametrized(layer, "bias")
    assert parametrize.type_before_parametrizations(layer) is nn.Linear
    assert layer.weight.tolist() == layer.weight.transpose(0, 1).tolist()
    assert [name for name, _ in layer.named_parameters()] == ["bias", "parametrizations.weight.original"]
    layer(torch.ones(1, 3)).sum().backward()
    assert layer.parametrizations.weight.original.grad.tolist() == [[1, 2, 2], [0, 1, 2], [0, 0, 1]]


def test_assigning_goes_through_right_inverse_in_reverse():
    layer = nn.Linear(2, 2)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    parametrize.register_parametrization(layer, "weight", Doubled())
    value = torch.tensor([[2.0, 4.0], [4.0, 6.0]])
    layer.weight = value
    assert layer.weight.tolist() == value.tolist()
    assert layer.parametrizations.weight.original.tolist() == [[1.0, 2.0], [0.0, 3.0]]


def test_removing_leaves_the_value_or_the_original():
    layer = nn.Linear(2, 2)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    value = layer.weight.tolist()
    twin = copy.deepcopy(layer)
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Linear and layer.weight.tolist() == value and isinstance(layer.weight, nn.Parameter)
    original = twin.parametrizations.weight.original.tolist()
    parametrize.remove_parametrizations(twin, "weight", leave_parametrized=False)
    assert twin.weight.tolist() == original
    with pytest.raises(ValueError, match="does not have a parametrization on weight"):
        parametrize.remove_parametrizations(layer, "weight")


def test_registration_checks_shape_and_name():
    class Cut(nn.Module):
        def forward(self, x):
            return x[:1]

    with pytest.raises(ValueError, match="may not change the shape"):
        parametrize.register_parametrization(nn.Linear(2, 2), "weight", Cut())
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Cut(), unsafe=True)
    assert layer.weight.shape == (1, 2)
    with pytest.raises(ValueError, match="with name 'nothing'"):
        parametrize.register_parametrization(layer, "nothing", Cut())


def test_cached_computes_once_and_pickling_is_refused():
    calls = []

    class Counted(nn.Module):
        def forward(self, x):
            calls.append(1)
            return x

    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Counted())
    calls.clear()
    with parametrize.cached():
        assert layer.weight is layer.weight
    assert len(calls) == 1
    layer.weight, layer.weight  # noqa: B018
    assert len(calls) == 3
    with pytest.raises(RuntimeError, match="only supported through state_dict"):
        pickle.dumps(layer)


def test_transfer():
    source = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Symmetric())
    target = parametrize.transfer_parametrizations_and_params(source, nn.Linear(2, 2))
    assert target.weight.tolist() == source.weight.tolist()


@pytest.mark.parametrize("kind", ["matrix_exp", "cayley", "householder"])
@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (4, 2)])
def test_orthogonal(kind, shape):
    pytest.importorskip("flambeau.ops.linalg")
    torch.manual_seed(0)
    layer = parametrizations.orthogonal(nn.Linear(*shape), orthogonal_map=kind)
    layer(torch.ones(1, shape[0])).sum().backward()
    with torch.no_grad():
        layer.parametrizations.weight.original.add_(0.3 * torch.randn(shape[1], shape[0]).sign())
    weight = layer.weight.detach().numpy()
    product = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
    if kind != "householder":                                           # there the diagonal must stay ±1
        np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-5)
    with pytest.raises(ValueError, match="orthogonal_map has to be one of"):
        parametrizations.orthogonal(nn.Linear(2, 2), orthogonal_map="exp")


# ------------------------------------------------------------------------------------------------ prune


def ranked():
    layer = nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -2.0, 3.0], [-4.0, 5.0, -6.0]]))
    return layer


def test_l1_pruning_masks_the_smallest():
    layer = prune.l1_unstructured(ranked(), "weight", amount=2)
    assert layer.weight_mask.tolist() == [[0, 0, 1], [1, 1, 1]]
    assert layer.weight.tolist() == [[0, 0, 3], [-4, 5, -6]]
    assert [name for name, _ in layer.named_parameters()] == ["bias", "weight_orig"]
    assert prune.is_pruned(nn.Sequential(layer))
    layer(torch.ones(1, 3)).sum().backward()
    assert layer.weight_orig.grad.tolist() == [[0, 0, 1], [1, 1, 1]]
    prune.remove(layer, "weight")
    assert isinstance(layer.weight, nn.Parameter) and layer.weight.tolist() == [[0, 0, 3], [-4, 5, -6]]
    assert not prune.is_pruned(layer)
    with pytest.raises(ValueError, match="has to be pruned before"):
        prune.remove(layer, "weight")


def test_pruning_twice_chains():
    layer = prune.l1_unstructured(ranked(), "weight", amount=2)
    prune.l1_unstructured(layer, "weight", amount=0.5)                  # half of the four that are left
    assert layer.weight_mask.tolist() == [[0, 0, 0], [0, 1, 1]]
    container, = layer._forward_pre_hooks.values()
    assert isinstance(container, prune.PruningContainer) and len(container) == 2


def test_structured_pruning():
    layer = prune.ln_structured(ranked(), "weight", amount=1, n=2, dim=0)
    assert layer.weight_mask.tolist() == [[0, 0, 0], [1, 1, 1]]
    torch.manual_seed(0)
    layer = prune.random_structured(ranked(), "weight", amount=2, dim=1)
    assert sorted(layer.weight_mask.sum(0).tolist()) == [0, 0, 2]
    with pytest.raises(ValueError, match="multidimensional"):
        prune.ln_structured(ranked(), "bias", amount=1, n=2, dim=0)


def test_random_and_custom_pruning():
    torch.manual_seed(0)
    layer = prune.random_unstructured(ranked(), "weight", amount=0.5)
    assert layer.weight_mask.sum().item() == 3
    layer = prune.custom_from_mask(ranked(), "bias", torch.tensor([0, 1]))
    assert layer.bias[0].item() == 0
    assert prune.identity(ranked(), "weight").weight_mask.min().item() == 1


def test_global_pruning():
    first, second = ranked(), ranked()
    with torch.no_grad():
        second.weight.mul_(10.0)
    prune.global_unstructured([(first, "weight"), (second, "weight")], prune.L1Unstructured, amount=6)
    assert first.weight_mask.sum().item() == 0 and second.weight_mask.sum().item() == 6


def test_pruning_amounts_are_checked():
    for amount, error in ((1.5, ValueError), (-1, ValueError), ("half", TypeError), (7, ValueError)):
        with pytest.raises(error, match="amount"):
            prune.l1_unstructured(ranked(), "weight", amount=amount)
    layer = ranked()
    with pytest.raises(ValueError, match="amount"):
        prune.l1_unstructured(layer, "weight", amount=7)
    assert isinstance(layer.weight, nn.Parameter)                       # nothing half done

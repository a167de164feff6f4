"""Parameter, Buffer, uninitialised parameters and the lazy layers."""

from __future__ import annotations

import copy
import pickle

import pytest

import flambeau as torch
from flambeau import nn

LAZY = "ignore:Lazy modules are a new feature:UserWarning"


def test_a_parameter_is_a_tensor_sharing_its_data():
    data = torch.ones(2)
    parameter = nn.Parameter(data)
    assert isinstance(parameter, torch.Tensor) and parameter.requires_grad and parameter.is_leaf
    data[0] = 5.0
    assert parameter.tolist() == [5.0, 1.0]
    assert type(parameter * 2) is torch.Tensor
    assert nn.Parameter().shape == (0,)


def test_repr():
    assert repr(nn.Parameter(torch.ones(2))) == "Parameter containing:\ntensor([1., 1.], requires_grad=True)"


def test_integers_need_requires_grad_false():
    with pytest.raises(RuntimeError, match="floating point"):
        nn.Parameter(torch.tensor([1, 2]))
    assert nn.Parameter(torch.tensor([1, 2]), requires_grad=False).tolist() == [1, 2]
    with pytest.raises(TypeError, match="expected a Tensor, got list"):
        nn.Parameter([1.0])


def test_copies_stay_parameters():
    parameter = nn.Parameter(torch.ones(2), requires_grad=False)
    for twin in (copy.deepcopy(parameter), pickle.loads(pickle.dumps(parameter))):
        assert type(twin) is nn.Parameter and not twin.requires_grad and twin.tolist() == [1.0, 1.0]
    one, two = copy.deepcopy([parameter, parameter])
    assert one is two
    parameter.note = "kept"
    assert pickle.loads(pickle.dumps(parameter)).note == "kept"


def test_a_buffer_registers_itself():
    module = nn.Module()
    module.mean = nn.Buffer(torch.zeros(2))
    module.cache = nn.Buffer(torch.zeros(2), persistent=False)
    assert isinstance(module.mean, nn.Buffer) and not isinstance(torch.zeros(2), nn.Buffer)
    assert list(module.state_dict()) == ["mean"]
    assert [name for name, _ in module.named_buffers()] == ["mean", "cache"]


@pytest.mark.filterwarnings(LAZY)
def test_uninitialised_parameters_say_so():
    layer = nn.LazyLinear(3)
    assert repr(layer.weight) == "<UninitializedParameter>"
    with pytest.raises(ValueError, match="uninitialized parameter in sum"):
        layer.weight.sum()
    with pytest.raises(RuntimeError, match="shape of an uninitialized parameter"):
        layer.weight.shape  # noqa: B018
    assert repr(layer) == "LazyLinear(in_features=0, out_features=3, bias=True)"


@pytest.mark.filterwarnings(LAZY)
@pytest.mark.parametrize(("lazy", "eager", "shape"), [
    (lambda: nn.LazyLinear(3), lambda: nn.Linear(4, 3), (2, 4)),
    (lambda: nn.LazyConv2d(2, 3, stride=2), lambda: nn.Conv2d(4, 2, 3, stride=2), (1, 4, 5, 5)),
    (lambda: nn.LazyConvTranspose1d(2, 3, bias=False), lambda: nn.ConvTranspose1d(4, 2, 3, bias=False), (1, 4, 5)),
    (lambda: nn.LazyBatchNorm1d(), lambda: nn.BatchNorm1d(4), (3, 4)),
    (lambda: nn.LazyInstanceNorm1d(affine=True), lambda: nn.InstanceNorm1d(4, affine=True, track_running_stats=True),
     (3, 4, 5)),
])
def test_lazy_layers_become_the_eager_ones_with_the_same_draws(lazy, eager, shape):
    x = torch.ones(*shape)
    torch.manual_seed(1)
    made = eager()
    torch.manual_seed(1)
    layer = lazy()
    out = layer(x)
    assert type(layer) is type(made) and repr(layer) == repr(made)
    assert out.tolist() == made(x).tolist()
    assert not layer._forward_pre_hooks and not layer._load_state_dict_pre_hooks


@pytest.mark.filterwarnings(LAZY)
def test_lazy_layers_take_shapes_from_a_state_dict():
    layer = nn.LazyLinear(3)
    layer.load_state_dict(nn.Linear(4, 3).state_dict())
    assert layer.weight.shape == (3, 4)
    assert layer(torch.ones(1, 4)).shape == (1, 3) and layer.in_features == 4


@pytest.mark.filterwarnings(LAZY)
def test_lazy_layers_copy_and_pickle():
    for twin in (copy.deepcopy(nn.LazyLinear(2)), pickle.loads(pickle.dumps(nn.LazyLinear(2)))):
        assert twin.has_uninitialized_params()
        assert twin(torch.ones(1, 3)).shape == (1, 2)
    with pytest.raises(RuntimeError, match=r"Expected 3D .unbatched. or 4D .batched. input to LazyConv2d"):
        nn.LazyConv2d(1, 1)(torch.ones(2))


def test_hooks_are_not_pickled():
    parameter = nn.Parameter(torch.ones(2))
    parameter.register_hook(lambda grad: grad * 2)
    twin = pickle.loads(pickle.dumps(parameter))
    twin.sum().backward()
    assert twin.grad.tolist() == [1.0, 1.0]

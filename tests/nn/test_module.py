"""Module: attributes, registries, walking, changing, printing, copying."""

from __future__ import annotations

import copy
import pickle

import pytest

import flambeau as torch
from flambeau import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.body = nn.Sequential(nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2, bias=False))
        self.scale = nn.Parameter(torch.ones(2))
        self.register_buffer("seen", torch.zeros(1))
        self.register_buffer("scratch", torch.zeros(1), persistent=False)

    def forward(self, x):
        return self.body(self.first(x)) * self.scale


def test_walking_gives_names_in_pytorchs_order():
    net = Net()
    assert [name for name, _ in net.named_parameters()] == [
        "scale", "first.weight", "first.bias", "body.0.weight", "body.0.bias", "body.2.weight"]
    assert [name for name, _ in net.named_buffers()] == [
        "seen", "scratch", "body.0.running_mean", "body.0.running_var", "body.0.num_batches_tracked"]
    assert [name for name, _ in net.named_modules()] == ["", "first", "body", "body.0", "body.1", "body.2"]
    assert [name for name, _ in net.named_children()] == ["first", "body"]
    assert [name for name, _ in net.named_parameters(prefix="net", recurse=False)] == ["net.scale"]


def test_shared_parameters_are_walked_once_unless_asked_otherwise():
    layer = nn.Linear(2, 2)
    both = nn.ModuleList([layer, layer])
    assert [name for name, _ in both.named_parameters()] == ["0.weight", "0.bias"]
    names = [name for name, _ in both.named_parameters(remove_duplicate=False)]
    assert names == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert len(list(both.modules())) == 2
    assert len(list(both.children())) == 1


def test_assigning_replaces_whatever_had_the_name():
    net = Net()
    net.first = None
    assert net.first is None and "first" in net._modules
    net.first = nn.Linear(3, 4)
    net.seen = torch.ones(2)
    assert net._buffers["seen"].tolist() == [1.0, 1.0]
    net.extra = torch.ones(1)
    assert "extra" not in net._buffers
    net.extra = nn.Parameter(torch.ones(1))
    assert "extra" in net._parameters and "extra" not in net.__dict__
    net.extra = None
    assert net._parameters["extra"] is None
    del net.extra
    assert not hasattr(net, "extra")


def test_assigning_refuses_what_does_not_fit():
    net = Net()
    with pytest.raises(TypeError, match=r"cannot assign 'torch.FloatTensor' as parameter 'scale'"):
        net.scale = torch.ones(2)
    with pytest.raises(TypeError, match="cannot assign 'int' as child module 'first'"):
        net.first = 3
    with pytest.raises(TypeError, match="cannot assign 'str' as buffer 'seen'"):
        net.seen = "x"
    with pytest.raises(AttributeError, match="'Net' object has no attribute 'nothing'"):
        net.nothing  # noqa: B018


def test_registering_checks_names_and_values():
    net = Net()
    with pytest.raises(KeyError, match="attribute 'forward' already exists"):
        net.register_buffer("forward", torch.ones(1))
    with pytest.raises(KeyError, match="parameter name can"):
        net.register_parameter("a.b", None)
    with pytest.raises(KeyError, match="be empty string"):
        net.add_module("", nn.ReLU())
    with pytest.raises(TypeError, match="name should be a string"):
        net.register_buffer(3, None)
    with pytest.raises(TypeError, match="int is not a Module subclass"):
        net.add_module("x", 3)
    with pytest.raises(TypeError, match="object to parameter 'p'"):
        net.register_parameter("p", torch.ones(1))
    with pytest.raises(ValueError, match="non-leaf"):
        product = nn.Parameter(torch.ones(1)) * 2
        product.__class__ = nn.Parameter
        net.register_parameter("p", product)


def test_before_init_nothing_can_be_assigned():
    class Forgetful(nn.Module):
        def __init__(self, value):
            self.value = value

    for value, message in ((nn.ReLU(), "module"), (nn.Parameter(torch.ones(1)), "parameters")):
        with pytest.raises(AttributeError, match=f"cannot assign {message} before Module.__init__"):
            Forgetful(value)
    with pytest.raises(AttributeError, match=r"before Module.__init__"):
        Forgetful(1)(2)


def test_constructor_takes_no_arguments():
    with pytest.raises(TypeError, match="unexpected keyword argument 'size'"):
        nn.Module(size=3)


def test_forward_is_required():
    with pytest.raises(NotImplementedError, match='Module \\[Module\\] is missing the required "forward" function'):
        nn.Module()(1)


def test_get_submodule_parameter_buffer():
    net = Net()
    assert net.get_submodule("body.2") is net.body[2]
    assert net.get_submodule("") is net
    assert net.get_parameter("body.2.weight") is net.body[2].weight
    assert net.get_buffer("body.0.running_var") is net.body[0].running_var
    with pytest.raises(AttributeError, match="has no attribute `missing`"):
        net.get_submodule("body.missing")
    with pytest.raises(AttributeError, match=r"`scale` is not an nn.Module"):
        net.get_submodule("scale.x")
    with pytest.raises(AttributeError, match=r"`running_var` is not an nn.Parameter"):
        net.get_parameter("body.0.running_var")
    with pytest.raises(AttributeError, match="`scale` is not a buffer"):
        net.get_buffer("scale")


def test_set_submodule():
    net = Net()
    replacement = nn.Tanh()
    net.set_submodule("body.1", replacement)
    assert net.body[1] is replacement
    with pytest.raises(AttributeError, match="has no attribute `more`"):
        net.set_submodule("body.more", replacement, strict=True)
    with pytest.raises(ValueError, match="without a target name"):
        net.set_submodule("", replacement)


def test_train_and_eval_reach_everything():
    net = Net()
    assert net.eval() is net
    assert not any(module.training for module in net.modules())
    net.train()
    assert all(module.training for module in net.modules())
    with pytest.raises(ValueError, match="expected to be boolean"):
        net.train("yes")


def test_to_changes_floating_tensors_in_place():
    net = Net()
    weight = net.first.weight
    assert net.to(torch.float64) is net
    assert net.first.weight is weight and weight.dtype == torch.float64
    assert net.body[0].num_batches_tracked.dtype == torch.int64
    assert net.half().first.weight.dtype == torch.float16
    assert net.bfloat16().first.weight.dtype == torch.bfloat16
    assert net.float().first.weight.dtype == torch.float32
    assert net.double().to(torch.ones(1)).first.weight.dtype == torch.float32
    assert net.to("cpu", torch.float64).first.weight.dtype == torch.float64
    assert net.cpu() is net
    with pytest.raises(TypeError, match="only accepts floating point or complex"):
        net.to(torch.int64)
    with pytest.raises(AssertionError, match="not compiled with CUDA"):
        net.cuda()


def test_to_keeps_gradients():
    layer = nn.Linear(2, 1)
    layer(torch.ones(3, 2)).sum().backward()
    layer.double()
    assert layer.weight.grad.dtype == torch.float64
    assert layer.weight.grad.tolist() == [[3.0, 3.0]]


def test_meta_and_to_empty():
    layer = nn.Linear(2, 3, device="meta")
    assert layer.weight.is_meta
    layer.to_empty(device="cpu")
    assert not layer.weight.is_meta and layer.weight.shape == (3, 2)
    assert isinstance(layer.weight, nn.Parameter) and layer.weight.requires_grad


def test_zero_grad_and_requires_grad():
    layer = nn.Linear(2, 1)
    layer(torch.ones(1, 2)).sum().backward()
    layer.zero_grad(set_to_none=False)
    assert layer.weight.grad.tolist() == [[0.0, 0.0]]
    layer.zero_grad()
    assert layer.weight.grad is None
    assert layer.requires_grad_(False) is layer
    assert not layer.bias.requires_grad


def test_apply_goes_depth_first():
    seen = []
    nn.Sequential(nn.ReLU(), nn.Sequential(nn.Tanh())).apply(lambda module: seen.append(type(module).__name__))
    assert seen == ["ReLU", "Tanh", "Sequential", "Sequential"]


def test_repr_is_pytorchs():
    assert repr(Net()) == """Net(
  (first): Linear(in_features=3, out_features=4, bias=True)
  (body): Sequential(
    (0): BatchNorm1d(4, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)
    (1): ReLU()
    (2): Linear(in_features=4, out_features=2, bias=False)
  )
)"""

    class Told(nn.Module):
        def extra_repr(self):
            return "a=1\nb=2"

    assert repr(Told()) == "Told(\n  a=1\n  b=2\n)"


def test_dir_lists_parameters_but_no_numbers():
    names = dir(nn.Sequential(nn.Linear(1, 1)))
    assert "_parameters" in names and "0" not in names
    assert "weight" in dir(nn.Linear(1, 1))


def test_deepcopy_is_independent_and_keeps_sharing():
    layer = nn.Linear(2, 2)
    net = nn.Sequential(layer, nn.ReLU(), layer)
    twin = copy.deepcopy(net)
    assert twin[0] is twin[2] and twin[0] is not layer
    with torch.no_grad():
        twin[0].weight.fill_(7.0)
    assert layer.weight.max().item() < 7
    assert type(twin[0].weight) is nn.Parameter


def test_pickle_keeps_values_and_state():
    net = Net().eval()
    back = pickle.loads(pickle.dumps(net))
    assert not back.training and type(back.first.weight) is nn.Parameter
    x = torch.ones(2, 3)
    assert back(x).tolist() == net(x).tolist()


def test_old_pickles_get_the_registries_they_lack():
    layer = nn.Linear(1, 1)
    state = layer.__getstate__()
    for name in ("_forward_hooks_with_kwargs", "_non_persistent_buffers_set", "_backward_pre_hooks"):
        del state[name]
    old = nn.Linear.__new__(nn.Linear)
    old.__setstate__(state)
    assert old(torch.ones(1, 1)).shape == (1, 1)


def test_modules_are_found_under_pytorchs_paths():
    import importlib

    assert importlib.import_module("flambeau.nn.modules.linear").Linear is nn.Linear
    assert importlib.import_module("flambeau.nn.modules.module").Module is nn.Module
    assert importlib.import_module("flambeau.nn.modules.container").Sequential is nn.Sequential
    assert nn.modules.conv.Conv2d is nn.Conv2d
    assert nn.modules.utils._pair(3) == (3, 3)


def test_data_parallel_passes_through():
    layer = nn.Linear(2, 2)
    wrapped = nn.DataParallel(layer)
    x = torch.ones(1, 2)
    assert wrapped(x).tolist() == layer(x).tolist()
    assert list(wrapped.state_dict()) == ["module.weight", "module.bias"]


def test_compile_replaces_what_a_call_runs(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **options: lambda x: function(x) + 1, raising=False)
    module = nn.Identity()
    module.compile(fullgraph=True)
    assert module(torch.ones(1)).item() == 2
    module.register_forward_hook(lambda module, args, output: output * 10)
    assert module(torch.ones(1)).item() == 20
    assert copy.deepcopy(module)(torch.ones(1)).item() == 10            # a copy is not compiled

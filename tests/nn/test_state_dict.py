"""state_dict and load_state_dict: keys, sharing, strictness, messages, hooks, versions."""

from __future__ import annotations

from collections import OrderedDict

import pytest

import flambeau as torch
from flambeau import nn


def net():
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 2, 3), norm=nn.BatchNorm2d(2)))


def test_keys_order_metadata_and_type():
    state = net().state_dict()
    assert type(state) is OrderedDict
    assert list(state) == ["conv.weight", "conv.bias", "norm.weight", "norm.bias", "norm.running_mean",
                           "norm.running_var", "norm.num_batches_tracked"]
    assert state._metadata == {"": {"version": 1}, "conv": {"version": 1}, "norm": {"version": 2}}
    assert next(iter(net().state_dict(prefix="model."))) == "model.conv.weight"


def test_it_is_live_memory_and_detached():
    layer = nn.Linear(2, 1)
    state = layer.state_dict()
    assert not state["weight"].requires_grad
    with torch.no_grad():
        layer.weight.fill_(3.0)
    assert state["weight"].tolist() == [[3.0, 3.0]]
    assert layer.state_dict(keep_vars=True)["weight"] is layer.weight


def test_positional_arguments_still_work_with_a_warning():
    into = OrderedDict()
    with pytest.warns(FutureWarning, match="Positional args are being deprecated"):
        nn.Linear(1, 1).state_dict(into, "x.")
    assert list(into) == ["x.weight", "x.bias"]


def test_loading_copies_into_the_same_tensors():
    source, target = net(), net()
    weight = target.conv.weight
    result = target.load_state_dict(source.state_dict())
    assert repr(result) == "<All keys matched successfully>"
    assert target.conv.weight is weight
    assert weight.tolist() == source.conv.weight.tolist()
    assert weight.data_ptr() != source.conv.weight.data_ptr()


def test_assign_takes_the_tensors_over():
    source, target = nn.Linear(2, 2), nn.Linear(2, 2, device="meta")
    target.load_state_dict(source.state_dict(), assign=True)
    assert isinstance(target.weight, nn.Parameter) and target.weight.requires_grad
    assert target.weight.data_ptr() == source.weight.data_ptr()


def test_strict_lists_everything_at_once():
    state = nn.Linear(3, 2).state_dict()
    state["extra"] = torch.ones(1)
    del state["bias"]
    with pytest.raises(RuntimeError) as caught:
        nn.Linear(2, 2).load_state_dict(state)
    assert str(caught.value) == (
        "Error(s) in loading state_dict for Linear:\n"
        '\tMissing key(s) in state_dict: "bias". \n'
        '\tUnexpected key(s) in state_dict: "extra". \n'
        "\tsize mismatch for weight: copying a param with shape torch.Size([2, 3]) from checkpoint, the shape in "
        "current model is torch.Size([2, 2]).")


def test_not_strict_returns_the_keys():
    state = nn.Linear(2, 2).state_dict()
    del state["bias"]
    state["other.weight"] = torch.ones(1)
    result = nn.Linear(2, 2).load_state_dict(state, strict=False)
    assert result.missing_keys == ["bias"] and result.unexpected_keys == ["other.weight"]
    assert repr(result) == "_IncompatibleKeys(missing_keys=['bias'], unexpected_keys=['other.weight'])"
    with pytest.raises(RuntimeError, match="size mismatch for weight"):
        nn.Linear(3, 2).load_state_dict({"weight": torch.ones(2, 2)}, strict=False)


def test_wrong_values_are_named():
    with pytest.raises(TypeError, match="Expected state_dict to be dict-like, got <class 'list'>"):
        nn.Linear(1, 1).load_state_dict([])
    with pytest.raises(RuntimeError, match=r'While copying the parameter named "weight", expected torch.Tensor'):
        nn.Linear(1, 1).load_state_dict({"weight": 3, "bias": torch.ones(1)})


def test_a_scalar_takes_the_older_one_element_form():
    module = nn.Module()
    module.scale = nn.Parameter(torch.tensor(0.0))
    module.load_state_dict({"scale": torch.ones(1)})
    assert module.scale.item() == 1


def test_non_persistent_buffers_stay_out():
    module = nn.Module()
    module.register_buffer("kept", torch.ones(1))
    module.register_buffer("dropped", torch.ones(1), persistent=False)
    assert list(module.state_dict()) == ["kept"]
    module.register_buffer("kept", torch.ones(1), persistent=False)
    assert not module.state_dict()


def test_extra_state():
    class Counting(nn.Module):
        count = 3

        def forward(self, x):
            return x

        def get_extra_state(self):
            return {"count": self.count}

        def set_extra_state(self, state):
            self.count = state["count"]

    module = nn.Sequential(Counting())
    module[0].count = 5
    state = module.state_dict()
    assert state["0._extra_state"] == {"count": 5}
    other = nn.Sequential(Counting())
    other.load_state_dict(state)
    assert other[0].count == 5
    with pytest.raises(RuntimeError, match=r'Missing key.*"0._extra_state"'):
        other.load_state_dict({})
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"0._extra_state"'):
        nn.Sequential(nn.ReLU()).load_state_dict(state)


def test_batch_norm_of_version_1_has_no_counter():
    source = nn.BatchNorm1d(2).state_dict()
    del source["num_batches_tracked"], source._metadata
    target = nn.BatchNorm1d(2)
    target.num_batches_tracked.fill_(4)
    target.load_state_dict(source)
    assert target.num_batches_tracked.item() == 4


def test_hooks_around_saving_and_loading():
    layer = nn.Linear(1, 1)
    layer.register_state_dict_pre_hook(lambda module, prefix, keep_vars: module.bias.data.fill_(9.0))

    def rename(module, state, prefix, metadata):
        state[prefix + "w"] = state.pop(prefix + "weight")

    layer.register_state_dict_post_hook(rename)
    state = layer.state_dict()
    assert list(state) == ["bias", "w"] and state["bias"].item() == 9

    seen = []
    target = nn.Linear(1, 1)

    def undo(module, state, prefix, *rest):
        state[prefix + "weight"] = state.pop(prefix + "w")

    target.register_load_state_dict_pre_hook(undo)
    target.register_load_state_dict_post_hook(lambda module, keys: seen.append(keys))
    target.load_state_dict(state)
    assert seen[0].missing_keys == []
    target.register_load_state_dict_post_hook(lambda module, keys: 1)
    with pytest.raises(RuntimeError, match="not expected to return new values"):
        target.load_state_dict(state)


def test_post_hook_may_forgive_missing_keys():
    layer = nn.Linear(1, 1)
    layer.register_load_state_dict_post_hook(lambda module, keys: keys.missing_keys.clear())
    layer.load_state_dict({"weight": torch.ones(1, 1)})
    assert layer.weight.item() == 1

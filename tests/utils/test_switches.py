"""Modules of PyTorch that scripts ask and set, where flambeau has one way to do things."""

import pytest

import flambeau as torch
from flambeau.torch_version import TorchVersion


def test_switches_of_cuda_keep_what_they_are_told():
    cuda = torch.backends.cuda
    cuda.matmul.allow_tf32 = True
    cuda.enable_flash_sdp(False)
    try:
        assert cuda.matmul.allow_tf32 and not cuda.flash_sdp_enabled() and cuda.math_sdp_enabled()
    finally:
        cuda.matmul.allow_tf32 = False
        cuda.enable_flash_sdp(True)
    assert not cuda.is_built()


def test_choosing_a_kernel_of_attention_changes_nothing():
    from flambeau.nn.attention import SDPBackend, sdpa_kernel

    q = torch.randn(1, 2, 3, 4)
    free = torch.nn.functional.scaled_dot_product_attention(q, q, q)
    with sdpa_kernel([SDPBackend.MATH, SDPBackend.FLASH_ATTENTION]):
        assert torch.nn.functional.scaled_dot_product_attention(q, q, q).equal(free)
    with pytest.raises(AssertionError, match="SDPBackend"), sdpa_kernel("math"):
        pass


def test_absent_devices_answer():
    assert not torch.accelerator.is_available() and torch.accelerator.current_accelerator() is None
    assert torch.accelerator.device_count() == torch.xpu.device_count() == 0
    with pytest.raises(RuntimeError, match="none is available"):
        torch.accelerator.synchronize()


def test_marks_change_nothing():
    def f(x):
        return x + 1

    assert torch.jit.ignore(f) is f and torch.jit.ignore(drop=True)(f) is f and torch.jit.ignore()(f) is f
    assert torch.jit.unused(f) is torch.jit.export(f) is torch.fx.wrap(f) is f
    assert torch.compiler.disable(f) is f and torch.compiler.disable(recursive=False)(f) is f
    assert not torch.compiler.is_compiling() and not torch.jit.is_tracing()
    assert not isinstance(torch.nn.Linear(1, 1), torch.fx.GraphModule)


@pytest.mark.parametrize(("older", "newer"), [("1.9.0", "1.13"), ("2.2", "2.13.0+flambeau0.1.0"), ("2.0", (2, 1))])
def test_versions_compare_by_number(older, newer):
    older, newer = TorchVersion(older), TorchVersion(newer) if isinstance(newer, str) else newer
    assert older < newer and older <= newer and not older >= newer and older != newer and newer > older
    assert TorchVersion("2.13.0") == "2.13" and hash(TorchVersion("2.1")) == hash("2.1")

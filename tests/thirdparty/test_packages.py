"""Packages written for PyTorch, running on flambeau; skipped where the package is not installed.

Each script in `scripts/` uses one package; beside it lies what it prints on PyTorch, recorded with einops 0.8,
torchmetrics 1.9, torchsummary 1.5, torchinfo 1.8, torchdiffeq 0.2, timm 1.0, pytorch-ignite 0.5 and safetensors 0.8.
Install them without their dependencies (`pip install --no-deps`), which would bring PyTorch.
"""

import importlib.util
import pathlib

import pytest

from tests.recorded import check, python

SCRIPTS = pathlib.Path(__file__).parent / "scripts"
PACKAGES = {
    "einops_layers": ["einops"],
    "ignite_training": ["ignite", "packaging"],
    "safetensors_files": ["safetensors"],
    "timm_models": ["timm", "safetensors", "huggingface_hub", "yaml"],
    "torchdiffeq_flows": ["torchdiffeq", "scipy"],
    "torchinfo_table": ["torchinfo"],
    "torchmetrics_values": ["torchmetrics", "lightning_utilities", "packaging"],
    "torchsummary_table": ["torchsummary"],
}


def needs(*packages):
    """Skip unless all of these are installed, and say which are not."""
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(absent), reason=f"not installed: {', '.join(absent)}")


def test_every_script_is_listed():
    assert sorted(PACKAGES) == sorted(path.stem for path in SCRIPTS.glob("*.py"))


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(*found)) for name, found in PACKAGES.items()])
def test_script(name, tmp_path):
    check(SCRIPTS / f"{name}.py", cwd=tmp_path)


# What these need is not here: torch.jit, torch._dynamo, and a `python` on the path that has PyTorch.
BEYOND = "not scripting and not test_torch_layer and not dynamic_shape and not threading"


@needs("einops")
def test_einops_own_tests(tmp_path, monkeypatch):
    monkeypatch.setenv("EINOPS_TEST_BACKENDS", "numpy,torch")
    # The seed is for comparisons of float32 sums whose tolerance PyTorch, too, meets by luck.
    result = python("-c", f"""if True:
        import flambeau; flambeau.as_torch()
        import pytest, sys
        flambeau.manual_seed(0)
        sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", ".",
                              "--pyargs", "einops.tests", "-k", "{BEYOND}"]))""", cwd=tmp_path)
    assert result.returncode == 0, result.stdout[-3000:]
    assert int(result.stdout.splitlines()[-1].split(" passed")[0].split()[-1]) >= 50


def test_packages_that_ask_for_the_version_are_answered():
    result = python("-c", """if True:
        import flambeau; flambeau.as_torch()
        import importlib.metadata, torch, torchvision
        found = importlib.metadata.version("torch")
        assert found == torch.__version__ == torch.version.__version__ and found.startswith("2."), found
        assert "+flambeau" in found and torch.version.cuda is None
        assert torch.__version__ >= "1.13" and torch.__version__ >= (2, 1) and not torch.__version__ < "2.8.0"
        assert importlib.metadata.version("torchvision") == torchvision.__version__
        assert {"torch", "torchvision"} <= {d.metadata["Name"] for d in importlib.metadata.distributions()}
        try:
            importlib.metadata.version("torchaudio")
        except importlib.metadata.PackageNotFoundError:
            print("ok")""")
    assert result.stdout == "ok\n", result.stderr

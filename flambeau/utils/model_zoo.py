"""PyTorch's `torch.utils.model_zoo`, the older name of what `torch.hub` does."""

from __future__ import annotations

from flambeau.hub import load_state_dict_from_url

load_url = load_state_dict_from_url

__all__ = ["load_url", "load_state_dict_from_url"]

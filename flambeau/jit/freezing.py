"""`torch.jit.freeze`: modules whose parameters are constants."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from flambeau.jit.modules import RecursiveScriptModule, ScriptModule, attribute_of
from flambeau.jit.tracing import Traced


def freeze(mod: Any, preserved_attrs: list[str] | None = None, optimize_numerics: bool = True) -> ScriptModule:
    """A copy of a ScriptModule in eval mode that no longer has parameters: their values now are constants.

    `preserved_attrs`: methods to keep besides forward. Scripts (of `torch.jit.script`) keep their parameters, without
    gradients. Raises: RuntimeError for what is no ScriptModule, or is in training mode.
    """
    if not isinstance(mod, ScriptModule):
        raise RuntimeError("Freezing expects a ScriptModule as input. Please use torch.jit.script or torch.jit.trace "
                           "to script your 'nn.Module'.")
    if mod.training:
        raise RuntimeError("Freezing is currently only implemented for modules in eval mode. Please call .eval() on "
                           "your module before freezing.")
    programs = mod.__dict__["_programs"]
    if not all(isinstance(program, Traced) and not any(tape.has_scripts for tape in program.tapes)
               for program in programs.values()):
        made = copy.deepcopy(mod)
        return made.requires_grad_(False)
    frozen = RecursiveScriptModule()
    frozen.__dict__.update(original_name=mod.original_name, training=False)
    for name, program in programs.items():
        if name == "forward" or name in (preserved_attrs or ()):
            frozen.__dict__["_programs"][name] = Traced(
                [_without_state(tape, mod) for tape in program.tapes], names=program.names)
    return frozen


def _without_state(tape: Any, mod: ScriptModule) -> Any:
    values = {number: attribute_of(mod, name).detach().clone() for number, name in tape.attributes.items()}
    return replace(tape, attributes={}, constants={**tape.constants, **values})


def optimize_for_inference(mod: Any, other_methods: list[str] | None = None) -> ScriptModule:
    """`freeze`; the compiler does the rest at the first call."""
    return mod if not mod._parameters and not mod._modules else freeze(mod.eval(), other_methods)


def run_frozen_optimizations(mod: Any, optimize_numerics: bool = True, preserved_methods: Any = None) -> None:
    """Accepted; the compiler optimises at the first call."""

"""RNN, LSTM, GRU over sequences, and their cells for one step."""

from __future__ import annotations

import math
import numbers
import warnings
from typing import Any

from flambeau.core.tensor import Tensor
from flambeau.nn import init
from flambeau.nn.module import Module
from flambeau.nn.parameter import Parameter
from flambeau.nn.utils.rnn import PackedSequence
from flambeau.ops import recurrent
from flambeau.ops.creation import empty, zeros

__all__ = ["GRU", "GRUCell", "LSTM", "LSTMCell", "RNN", "RNNBase", "RNNCell", "RNNCellBase"]

_GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


def _check_options(input_size: Any, hidden_size: Any, num_layers: Any, bias: Any, batch_first: Any, dropout: Any,
                   proj_size: Any) -> None:
    """Raises PyTorch's exception for arguments that make no recurrent network."""
    if not isinstance(dropout, numbers.Number) or isinstance(dropout, bool) or not 0 <= dropout <= 1:
        raise ValueError("dropout should be a number in range [0, 1] representing the probability of an element being "
                         f"zeroed, got {dropout!r}")
    if dropout > 0 and num_layers == 1:
        warnings.warn("dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects "
                      f"num_layers greater than 1, but got dropout={dropout} and num_layers={num_layers}",
                      stacklevel=4)
    for name, value, kind in (("bias", bias, bool), ("batch_first", batch_first, bool),
                              ("input_size", input_size, int), ("hidden_size", hidden_size, int)):
        if not isinstance(value, kind):
            raise TypeError(f"{name} should be of type {kind.__name__}, got: {type(value).__name__}")
    for name, value in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
        if value <= 0:
            raise ValueError(f"{name} must be greater than zero, got {value}")
    if proj_size < 0:
        raise ValueError("proj_size should be a positive integer or zero to disable projections")
    if proj_size >= hidden_size:
        raise ValueError(f"proj_size has to be smaller than hidden_size (proj_size={proj_size}, "
                         f"hidden_size={hidden_size})")


class RNNBase(Module):
    """Base: weights per layer and direction, drawn uniformly within ±1/√hidden_size.

    Shapes: input (L, N, input_size), or (N, L, input_size) with batch_first, or (L, input_size), or a
    PackedSequence; hidden (num_layers·directions, N, hidden_size).
    """

    __constants__ = ["mode", "input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout",
                     "bidirectional", "proj_size"]
    mode: str
    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    batch_first: bool
    dropout: float
    bidirectional: bool
    proj_size: int

    def __init__(self, mode: str, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0,
                 device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        _check_options(input_size, hidden_size, num_layers, bias, batch_first, dropout, proj_size)
        if mode not in _GATES:
            raise ValueError("Unrecognized RNN mode: " + mode)
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self._all_weights: list[list[str]] = []
        new = {"device": device, "dtype": dtype}
        gates, output_size = _GATES[mode] * hidden_size, proj_size or hidden_size
        for layer in range(num_layers):
            inputs = input_size if layer == 0 else output_size * (2 if bidirectional else 1)
            for suffix in ("", "_reverse") if bidirectional else ("",):
                shapes = {"weight_ih": (gates, inputs), "weight_hh": (gates, output_size)}
                if bias:
                    shapes |= {"bias_ih": (gates,), "bias_hh": (gates,)}
                if proj_size:
                    shapes |= {"weight_hr": (proj_size, hidden_size)}
                names = [f"{name}_l{layer}{suffix}" for name in shapes]
                for name, shape in zip(names, shapes.values()):
                    setattr(self, name, Parameter(empty(shape, **new)))
                self._all_weights.append(names)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws new initial values."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The weights of each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    @property
    def _flat_weights_names(self) -> list[str]:
        return [name for names in self._all_weights for name in names]

    @property
    def _flat_weights(self) -> list[Parameter]:
        return [getattr(self, name) for name in self._flat_weights_names]

    def flatten_parameters(self) -> None:
        """Does nothing: it arranges memory for cuDNN."""

    def __getstate__(self) -> dict:
        names = [name for layer in self._all_weights for name in layer]     # for PyTorch, which reads such files
        return {**super().__getstate__(), "_flat_weights_names": names,
                "_flat_weights": [getattr(self, name, None) for name in names]}

    def __setstate__(self, state: dict) -> None:
        # PyTorch keeps the weights twice; here they follow from the names.
        state = {key: value for key, value in state.items()
                 if key not in ("_flat_weights", "_flat_weights_names", "_flat_weight_refs", "all_weights")}
        super().__setstate__(state)
        self.__dict__.setdefault("proj_size", 0)

    # -------------------------------------------------------------------------------------------- forward

    def check_input(self, input: Tensor, batch_sizes: Tensor | None) -> None:
        """Raises for an input of the wrong dtype, number of dimensions or size."""
        weight = getattr(self, self._all_weights[0][0])
        if input.dtype != weight.dtype:
            raise ValueError(f"RNN input dtype ({input.dtype}) does not match weight dtype ({weight.dtype}). "
                             f"Convert input: input.to({weight.dtype}), or convert model: model.to({input.dtype})")
        expected = 3 if batch_sizes is None else 2
        if input.dim() != expected:
            raise RuntimeError(f"input must have {expected} dimensions, got {input.dim()}")
        if self.input_size != input.size(-1):
            raise RuntimeError(f"input.size(-1) must be equal to input_size. Expected {self.input_size}, "
                               f"got {input.size(-1)} (input {tuple(input.shape)})")

    def get_expected_hidden_size(self, input: Tensor, batch_sizes: Tensor | None) -> tuple[int, int, int]:
        """The shape that the hidden state must have for this input."""
        if batch_sizes is not None:
            batch = int(batch_sizes[0])
        else:
            batch = input.size(0 if self.batch_first else 1)
        return self.num_layers * (2 if self.bidirectional else 1), batch, self.proj_size or self.hidden_size

    def check_hidden_size(self, hx: Tensor, expected_hidden_size: tuple,
                          msg: str = "Expected hidden size {}, got {}") -> None:
        """Raises RuntimeError for a hidden state of another shape."""
        if tuple(hx.size()) != tuple(expected_hidden_size):
            raise RuntimeError(msg.format(expected_hidden_size, list(hx.size())))

    def _state_sizes(self) -> tuple[int, ...]:
        """The last size of each state tensor."""
        return (self.hidden_size,)

    def _hidden_name(self, index: int) -> str:
        return "hidden" if len(self._state_sizes()) == 1 else f"hidden[{index}]"

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        packed = input if isinstance(input, PackedSequence) else None
        batch_sizes = None
        data = input
        single = False
        if packed is not None:
            data, batch_sizes = packed.data, packed.batch_sizes
        else:
            kind = "RNN" if self.mode.startswith("RNN") else self.mode
            if data.dim() not in (2, 3):
                raise ValueError(f"{kind}: Expected input to be 2D or 3D, got {data.dim()}D instead")
            single = data.dim() == 2
            if single:
                data = data.unsqueeze(0 if self.batch_first else 1)
        states = self._initial_states(data, hx, batch_sizes, single)
        if packed is not None and hx is not None and packed.sorted_indices is not None:
            states = [state.index_select(1, packed.sorted_indices) for state in states]
        self.check_input(data, batch_sizes)
        layers, batch, _ = self.get_expected_hidden_size(data, batch_sizes)
        for i, (state, size) in enumerate(zip(states, self._state_sizes())):
            self.check_hidden_size(state, (layers, batch, size), f"Expected {self._hidden_name(i)} size {{}}, got {{}}")
        output, states = recurrent.sequence(
            self.mode, data, states, self.all_weights, bias=self.bias, dropout=self.dropout if self.training else 0.0,
            bidirectional=self.bidirectional, batch_first=self.batch_first, batch_sizes=batch_sizes)
        if packed is not None:
            if packed.unsorted_indices is not None:
                states = [state.index_select(1, packed.unsorted_indices) for state in states]
            output = PackedSequence(output, batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        elif single:
            output = output.squeeze(0 if self.batch_first else 1)
            states = [state.squeeze(1) for state in states]
        return output, states[0] if len(states) == 1 else tuple(states)

    def _initial_states(self, data: Tensor, hx: Any, batch_sizes: Tensor | None, single: bool) -> list[Tensor]:
        """The given states with a batch dimension, or zeros."""
        if hx is None:
            layers, batch, _ = self.get_expected_hidden_size(data, batch_sizes)
            return [zeros(layers, batch, size, dtype=data.dtype, device=data.device) for size in self._state_sizes()]
        states = [hx] if isinstance(hx, Tensor) else list(hx)
        wanted = 2 if single else 3
        if batch_sizes is None and any(state.dim() != wanted for state in states):
            names = "hx" if len(states) == 1 else "hx and cx"
            got = ", ".join(f"{state.dim()}-D" for state in states)
            raise RuntimeError(f"For {'unbatched' if single else 'batched'} {data.dim() - single}-D input, {names} "
                               f"should also be {wanted}-D but got {got} tensor{'s' * (len(states) > 1)}")
        return [state.unsqueeze(1) for state in states] if single else states

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        if self.proj_size != 0:
            text += f", proj_size={self.proj_size}"
        if self.num_layers != 1:
            text += f", num_layers={self.num_layers}"
        if self.bias is not True:
            text += f", bias={self.bias}"
        if self.batch_first is not False:
            text += f", batch_first={self.batch_first}"
        if self.dropout != 0:
            text += f", dropout={self.dropout}"
        if self.bidirectional is not False:
            text += f", bidirectional={self.bidirectional}"
        return text


class RNN(RNNBase):
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), or relu.

    RNN(input_size, hidden_size, num_layers=1, nonlinearity="tanh", bias=True, batch_first=False, dropout=0.0,
    bidirectional=False).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "proj_size" in kwargs:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        if len(args) > 3:
            nonlinearity, args = args[3], args[:3] + args[4:]
        else:
            nonlinearity = kwargs.pop("nonlinearity", "tanh")
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        super().__init__("RNN_" + nonlinearity.upper(), *args, **kwargs)
        self.nonlinearity = nonlinearity


class LSTM(RNNBase):
    """Long short-term memory (Hochreiter and Schmidhuber 1997), gates in the order i, f, g, o.

    LSTM(input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0, bidirectional=False,
    proj_size=0). The states are (h, c).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("LSTM", *args, **kwargs)

    def _state_sizes(self) -> tuple[int, ...]:
        return self.proj_size or self.hidden_size, self.hidden_size


class GRU(RNNBase):
    """Gated recurrent unit (Cho et al. 2014), gates in the order r, z, n.

    GRU(input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0, bidirectional=False).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "proj_size" in kwargs:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        super().__init__("GRU", *args, **kwargs)


class RNNCellBase(Module):
    """Base of the cells: weights (gates·hidden, input) and (gates·hidden, hidden)."""

    __constants__ = ["input_size", "hidden_size", "bias"]
    input_size: int
    hidden_size: int
    bias: bool

    def __init__(self, input_size: int, hidden_size: int, bias: bool, num_chunks: int, device: Any = None,
                 dtype: Any = None) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        new = {"device": device, "dtype": dtype}
        rows = num_chunks * hidden_size
        self.weight_ih = Parameter(empty((rows, input_size), **new))
        self.weight_hh = Parameter(empty((rows, hidden_size), **new))
        self.register_parameter("bias_ih", Parameter(empty(rows, **new)) if bias else None)
        self.register_parameter("bias_hh", Parameter(empty(rows, **new)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws new initial values."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def _weights(self) -> tuple:
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh

    def _batched(self, input: Tensor, states: list[Tensor | None]) -> tuple[Tensor, list[Tensor], bool]:
        """Input (N, input_size) and states (N, hidden_size); zeros for states that are not given."""
        kind = type(self).__name__
        if input.dim() not in (1, 2):
            raise ValueError(f"{kind}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        for i, state in enumerate(states):
            if state is not None and state.dim() not in (1, 2):
                name = "hidden" if len(states) == 1 else f"hx[{i}]"
                raise ValueError(f"{kind}: Expected {name} to be 1D or 2D, got {state.dim()}D instead")
        single = input.dim() == 1
        if single:
            input = input.unsqueeze(0)
            states = [state if state is None else state.unsqueeze(0) for state in states]
        shape = (input.size(0), self.hidden_size)
        return input, [zeros(shape, dtype=input.dtype, device=input.device) if state is None else state
                       for state in states], single

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        if self.bias is not True:
            text += f", bias={self.bias}"
        if getattr(self, "nonlinearity", "tanh") != "tanh":
            text += f", nonlinearity={self.nonlinearity}"
        return text


class RNNCell(RNNCellBase):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu: (N, input_size), (N, hidden_size) -> (N, hidden_size)."""

    __constants__ = ["input_size", "hidden_size", "bias", "nonlinearity"]

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh",
                 device: Any = None, dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        input, (hidden,), single = self._batched(input, [hx])
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        cell = recurrent.rnn_tanh_cell if self.nonlinearity == "tanh" else recurrent.rnn_relu_cell
        out = cell(input, hidden, *self._weights())
        return out.squeeze(0) if single else out


class LSTMCell(RNNCellBase):
    """One step of an LSTM: (N, input_size), ((N, hidden_size), (N, hidden_size)) -> (h', c')."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None,
                 dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        input, states, single = self._batched(input, [None, None] if hx is None else list(hx))
        h, c = recurrent.lstm_cell(input, states, *self._weights())
        return (h.squeeze(0), c.squeeze(0)) if single else (h, c)


class GRUCell(RNNCellBase):
    """One step of a GRU: (N, input_size), (N, hidden_size) -> (N, hidden_size)."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None,
                 dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        input, (hidden,), single = self._batched(input, [hx])
        out = recurrent.gru_cell(input, hidden, *self._weights())
        return out.squeeze(0) if single else out

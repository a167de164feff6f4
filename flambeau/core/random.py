"""PyTorch's CPU random stream on NumPy arrays: the Mersenne Twister generator, uniform, normal and integer draws.

The same seed gives the same words, and the arithmetic that turns words into numbers follows PyTorch's order of
operations down to its fused multiply-adds, so that results are equal bit for bit where both use the same libm.
Functions take a generator, a shape and a NumPy dtype and return a new C-contiguous array; tensors are unknown here.
Distributions beyond uniform, normal and integers are in `random_distributions.py`.
"""

from __future__ import annotations

import importlib
import math
import os
import sys

import ml_dtypes
import numpy as np

from flambeau.core.box_muller import box_muller_float32
from flambeau.core.device import device as Device

DEFAULT_SEED = 67280421310721                           # what PyTorch's generators start from
STATE_BYTES = 5056

MASK_24, MASK_53 = np.uint32((1 << 24) - 1), np.uint64((1 << 53) - 1)
SCALE_24, SCALE_53 = np.float32(2.0**-24), 2.0**-53
CHUNK = 1 << 16                                         # elements worked on at a time, to stay in the cache

float16, bfloat16 = np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)
float32, float64 = np.dtype(np.float32), np.dtype(np.float64)
DIGITS = {float16: 11, bfloat16: 8, float32: 24, float64: 53}       # bits of the significand

# The layout of PyTorch's saved generator state, which dates from the Lua days.
STATE = np.dtype([("seed", "<u8"), ("left", "<i4"), ("seeded", "<i4"), ("next", "<u8"), ("words", "<u8", 624),
                  ("normal_x", "<f8"), ("normal_y", "<f8"), ("normal_rho", "<f8"), ("normal_is_valid", "<i4"),
                  ("padding", "<i4"), ("float_normal", "<f4"), ("float_normal_is_valid", "<i4")])


class Generator:
    """A stream of random words: MT19937, seeded with the low 32 bits of a 64-bit seed.

    `raw(n)` draws n words of 32 bits, in a uint64 array; without n, one word as an int. The second value of a
    Box-Muller pair waits in `next_normal` for the next scalar draw and is part of the state.
    """

    __slots__ = ("raw", "next_normal", "_seed", "_bits", "_seeder", "_memory", "__weakref__")

    def __init__(self, device="cpu"):
        if Device(device).type != "cpu":
            raise RuntimeError(f"Generator: no random stream for device '{device}'; only 'cpu' has one")
        self._bits = self._seeder = self._memory = None
        self.manual_seed(DEFAULT_SEED)

    @property
    def device(self):
        """The device whose stream this is; always the CPU."""
        return Device("cpu")

    def manual_seed(self, seed):
        """Restart the stream from `seed`, an integer of 64 bits (negative ones wrap around), and return self."""
        if isinstance(seed, (str, bytes, float)) or not hasattr(seed, "__index__"):
            raise RuntimeError(f"manual_seed expected a long, but got {type(seed).__name__}")
        seed = seed.__index__()
        if not -(1 << 63) <= seed < 1 << 64:
            raise ValueError("Overflow when unpacking long long")
        self._seed = seed & 0xFFFFFFFFFFFFFFFF
        self.next_normal = None
        if self._bits is None:
            self.raw = self._start_and_draw
        else:
            self._seeder.seed(self._seed & 0xFFFFFFFF)
        return self

    def initial_seed(self):
        """The seed the stream was last restarted from."""
        return self._seed

    def seed(self):
        """Restart the stream from a seed the operating system gives, and return that seed."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little"))
        return self._seed

    def clone_state(self):
        """A new generator that continues as this one does."""
        other = Generator()
        other.load_bytes(self.state_bytes())
        return other

    graphsafe_get_state = clone_state

    def graphsafe_set_state(self, state):
        """Continue as the generator `state` does; return self."""
        self.load_bytes(state.state_bytes())
        return self

    def state_bytes(self):
        """The state in PyTorch's layout, an array of 5056 bytes."""
        self._start()
        engine = self._bits.state["state"]
        words, position = engine["key"].astype(np.uint64), int(engine["pos"])
        state = np.zeros((), STATE)
        state["seed"], state["seeded"], state["words"] = self._seed, 1, words
        if position == 624 and _is_seeded(words):       # nothing drawn yet
            state["left"], state["next"] = 1, 0
        else:
            state["left"], state["next"] = 625 - position, position
        if self.next_normal is not None:
            state["normal_is_valid"], state["normal_y"] = 1, self.next_normal
        return np.frombuffer(state.tobytes(), np.uint8).copy()

    def load_bytes(self, data):
        """Continue from a state that `state_bytes` (or PyTorch) gave."""
        data = np.ascontiguousarray(data)
        if data.dtype != np.uint8:
            raise TypeError("RNG state must be a torch.ByteTensor")
        if data.size != STATE_BYTES:
            raise RuntimeError(f"Expected a CPUGeneratorImplState of size {STATE_BYTES} but found the input RNG state "
                               f"size to be {data.size}")
        state = data.reshape(-1).view(STATE)[0]
        left, position = int(state["left"]), int(state["next"])
        if not (state["seeded"] == 1 and 0 < left <= 624 and position <= 624):
            raise RuntimeError("Invalid mt19937 state")
        self._start()
        self._bits.state = {"bit_generator": "MT19937", "state": {"key": state["words"].astype(np.uint32),
                                                                  "pos": 624 if left == 1 else position}}
        self._seed = int(state["seed"])
        self.next_normal = float(state["normal_y"]) if state["normal_is_valid"] else None

    def memory(self):
        """The engine itself, for generated code: 624 words and the position of the next one. uint32, of size 625.

        Whoever writes to it holds `lock`; the memory stays where it is as long as the array or the generator lives.
        """
        self._start()
        if self._memory is None:
            self._memory = np.asarray(_Engine(self._bits))
        return self._memory

    @property
    def lock(self):
        """Held while words are drawn."""
        self._start()
        return self._bits.lock

    def _start(self):
        """Make the engine. numpy.random is slow to import, so this waits for the first draw."""
        if self._bits is None:
            self._bits = np.random.MT19937(0)
            self._seeder = np.random.RandomState(self._bits)
            self._seeder.seed(self._seed & 0xFFFFFFFF)
            self.raw = self._bits.random_raw

    def _start_and_draw(self, size=None):
        self._start()
        return self.raw(size)

    def __reduce__(self):
        return _restore, (self.state_bytes().tobytes(),)

    def __repr__(self):
        return f"<torch._C.Generator object at {id(self):#x}>"


class _Engine:
    """The state of NumPy's engine as its array interface shows it; keeps the engine alive."""

    def __init__(self, bits):
        self.bits = bits
        self.__array_interface__ = {"data": (bits.ctypes.state_address, False), "shape": (625,), "typestr": "<u4",
                                    "version": 3}


def _restore(data):
    """Unpickle a generator."""
    generator = Generator()
    generator.load_bytes(np.frombuffer(data, np.uint8))
    return generator


def _is_seeded(words):
    """Whether the words are what seeding makes, before the first twist: each follows from the one before."""
    before = words[:-1]
    expected = (1812433253 * (before ^ (before >> np.uint64(30))) + np.arange(1, 624, dtype=np.uint64)) & 0xFFFFFFFF
    return bool((expected == words[1:]).all())


default_generator = Generator()


def manual_seed(seed):
    """Restart the default stream from `seed`; return the default generator."""
    return default_generator.manual_seed(int(seed))


def seed():
    """Restart the default stream from a seed the operating system gives, and return that seed."""
    return default_generator.seed()


def initial_seed():
    """The seed the default stream was last restarted from."""
    return default_generator.initial_seed()


# ---- generated code ----------------------------------------------------------------------------

LARGE = 1 << 16                                         # smaller draws stay with NumPy
PATIENCE = 1 << 24                                      # numbers that cost NumPy as much time as compiling takes
_native = None                                          # flambeau.compiler.draws; False if it cannot be had


def compiled(n):
    """The functions of generated code (`compiler/draws.py`) for a draw of n numbers, None while NumPy shall do it.

    They give the same numbers, some ten times as fast; compiling waits until it is worth it, or the compiler is
    loaded anyway.
    """
    global PATIENCE, _native
    if n < LARGE or _native is False:
        return None
    if _native is None:
        PATIENCE -= n
        if PATIENCE > 0 and "flambeau.backends.llvm.jit" not in sys.modules:
            return None
        try:
            if os.environ.get("FLAMBEAU_COMPILE") == "0":
                raise ImportError("switched off")
            _native = importlib.import_module("flambeau.compiler.draws")
        except ImportError:
            _native = False
            return None
    return _native


# ---- words and unit uniforms -----------------------------------------------------------------


def random64(gen, n):
    """n words of 64 bits, each made of two draws, the first in the upper half. uint64."""
    words = gen.raw(2 * n)
    return (words[0::2] << np.uint64(32)) | words[1::2]


def unit_float64(gen, n):
    """n uniform numbers in [0, 1) with 53 random bits. float64."""
    out = np.empty(n)
    native = compiled(n)
    if native:
        return native.uniform(gen, out, 0.0, 1.0)
    for start in range(0, n, CHUNK):
        part = out[start:start + CHUNK]
        words = random64(gen, part.size)
        words &= MASK_53
        np.multiply(words.view(np.int64), SCALE_53, out=part)       # signed converts faster
    return out


def unit_float32(gen, n):
    """n uniform numbers in [0, 1) with 24 random bits. float32."""
    if n <= CHUNK:
        words = gen.raw(n).astype(np.uint32)
        words &= MASK_24
        out = words.astype(np.float32)
        out *= SCALE_24
        return out
    out = np.empty(n, np.float32)
    native = compiled(n)
    if native:
        return native.uniform(gen, out, 0.0, 1.0)
    for start in range(0, n, CHUNK):
        part = out[start:start + CHUNK]
        words = gen.raw(part.size).astype(np.uint32)
        words &= MASK_24
        np.multiply(words.view(np.int32), SCALE_24, out=part, dtype=np.float32, casting="unsafe")
    return out


def unit_double(gen):
    """One uniform number in [0, 1) with 53 random bits, as a float."""
    raw = gen.raw
    return ((raw() << 32 | raw()) & 0x1FFFFFFFFFFFFF) * SCALE_53


def fma_float64(x, scale, offset):
    """x * scale + offset with a single rounding, for a float64 array and two floats.

    The error of the product is recovered by splitting (Dekker 1971), that of the sum by Knuth's two-sum.
    """
    if offset == 0:
        return x * scale
    if scale == 1:
        return x + offset
    product = x * scale
    total = product + offset
    if abs(scale) > 1e290 or not math.isfinite(scale):              # splitting would overflow
        return total
    x_high, x_low = _split(x)
    scale_high, scale_low = _split(scale)
    product_error = ((x_high * scale_high - product) + x_high * scale_low + x_low * scale_high) + x_low * scale_low
    added = total - product
    total_error = (product - (total - added)) + (offset - added)
    return total + (total_error + product_error)


def _split(x):
    """Two halves of at most 26 bits whose sum is x."""
    shifted = x * 134217729.0
    high = shifted - (shifted - x)
    return high, x - high


def narrowed(x, dtype):
    """A float64 array in another dtype; half precision is reached by way of float32, as in PyTorch."""
    if dtype == float16 or dtype == bfloat16:
        x = x.astype(np.float32)
    return x.astype(dtype, copy=False)


def _count(shape):
    return shape if isinstance(shape, int) else math.prod(shape)


# ---- uniform ---------------------------------------------------------------------------------


def uniform(gen, shape, dtype=float32, low=0.0, high=1.0):
    """Numbers uniform in [low, high). Dtypes: float16, bfloat16, float32, float64."""
    n = _count(shape)
    if low == 0 and high == 1 and dtype is float32:
        return unit_float32(gen, n).reshape(shape)
    native = compiled(n) if dtype == float32 or dtype == float64 else None
    if native:
        return native.uniform(gen, np.empty(shape, dtype), low, high)
    if dtype == float64:
        out = unit_float64(gen, n)
        if low != 0 or high != 1:
            out = fma_float64(out, high - low, low)
            out[out == high] = low
        return out.reshape(shape)
    out = unit_float32(gen, n)
    start, stop = np.float32(low), np.float32(high)
    if start != 0:
        # In float64 the product is exact, so one rounding is left: PyTorch's fused multiply-add.
        wide = np.multiply(out, stop - start, dtype=np.float64)
        wide += start
        out = wide.astype(np.float32)
    elif stop != 1:
        out *= stop
    if dtype != float32:
        out, start, stop = out.astype(dtype), dtype.type(start), dtype.type(stop)
    if low != 0 or high != 1 or dtype != float32:
        out[out == stop] = start                        # rounding reached the excluded end
    return out.reshape(shape)


# ---- normal ----------------------------------------------------------------------------------


def normal(gen, shape, dtype=float32, mean=0.0, std=1.0, *, contiguous=True):
    """Normal numbers by Box-Muller. Dtypes: float16, bfloat16, float32, float64.

    PyTorch fills a contiguous tensor of 16 or more elements in groups of 16, drawing the last group again when the
    size is no multiple; everything else comes one at a time, in float64, keeping the second value of a pair.
    """
    n = _count(shape)
    if n < 16 or not contiguous:
        return narrowed(scalar_normal(gen, n, mean, std), dtype).reshape(shape)
    native = compiled(n) if dtype == float32 else None
    if native:
        return native.normal(gen, np.empty(shape, dtype), mean, std)
    if dtype == float64:
        fill = _box_muller_float64
        values = unit_float64(gen, n)
    elif dtype == float32:
        fill = box_muller_float32
        values = unit_float32(gen, n)
    else:                                               # half precision draws nothing for the incomplete group
        fill = box_muller_float32
        values = np.empty(n, np.float32)
        values[:n - n % 16] = unit_float32(gen, n - n % 16)
    fill(values[:n - n % 16], mean, std)
    if n % 16:
        values[-16:] = unit_float64(gen, 16) if dtype == float64 else unit_float32(gen, 16)
        fill(values[-16:], mean, std)
    return values.astype(dtype, copy=False).reshape(shape)


def scalar_normal(gen, n, mean=0.0, std=1.0):
    """n normal numbers drawn one at a time in float64, starting with the value kept from the last pair."""
    values = []
    if n and gen.next_normal is not None:
        values.append(gen.next_normal)
        gen.next_normal = None
    missing = n - len(values)
    pairs = (missing + 1) // 2
    if pairs <= 12:
        for _ in range(pairs):
            angle, radius = 2 * math.pi * unit_double(gen), math.sqrt(-2.0 * math.log1p(-unit_double(gen)))
            values += radius * math.cos(angle), radius * math.sin(angle)
    else:
        units = unit_float64(gen, 2 * pairs)
        angle, radius = 2 * math.pi * units[0::2], np.sqrt(-2.0 * np.log1p(-units[1::2]))
        both = np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=1)
        values = np.concatenate((values, both.reshape(-1)))
    if missing % 2:
        gen.next_normal = float(values[-1])
        values = values[:-1]
    return fma_float64(np.array(values, np.float64), std, mean)


def _box_muller_float64(values, mean, std):
    """Turn uniforms into normals in place, 16 at a time: 8 radii, then 8 angles."""
    units = values.reshape(-1, 2, 8)
    radius, angle = np.sqrt(-2.0 * np.log(1.0 - units[:, 0])), 2 * math.pi * units[:, 1]
    units[:, 0] = fma_float64(radius * np.cos(angle), std, mean)
    units[:, 1] = fma_float64(radius * np.sin(angle), std, mean)


# ---- integers --------------------------------------------------------------------------------


def randint(gen, shape, low, high, dtype=np.int64):
    """Integers in [low, high), by remainder: of 32 random bits, of 64 where the range is 2**28 or more. Any dtype."""
    n, span = _count(shape), high - low
    native = compiled(n) if span < 1 << 28 else None
    if native:
        return native.randint(gen, np.empty(shape, np.int64), low, span).astype(dtype, copy=False)
    if span < 1 << 28:
        drawn = remainder(gen.raw(n).astype(np.uint32), span)
        if low or dtype == np.bool_:
            drawn = drawn.astype(np.int64) + low
    else:
        drawn = (remainder(random64(gen, n), span) + np.uint64(low & 0xFFFFFFFFFFFFFFFF)).view(np.int64)
    return drawn.astype(dtype).reshape(shape)


def factor_of(span):
    """2**64 // span + 1 as 64 bits, by which remainders are taken without dividing; see `backends/llvm/mersenne.py`."""
    bits = ((1 << 64) // span + 1) & (1 << 64) - 1 if span > 1 else 0
    return bits - (1 << 64) if bits >> 63 else bits


def remainder(words, span):
    """words % span for unsigned words and 0 < span <= 2**64, without dividing where it can."""
    if span & (span - 1) == 0:
        return words & words.dtype.type(span - 1)
    span = words.dtype.type(span)
    return words - words // span * span                 # a quotient by one number is vectorised, a remainder is not


def random_full(gen, shape, dtype):
    """What random_() draws: every non-negative value of an integer dtype, 0 … 2**digits of a floating one."""
    n, dtype = _count(shape), np.dtype(dtype)
    words = random64(gen, n) if dtype in (np.int64, np.float64) else gen.raw(n)
    if dtype == np.bool_:
        return (words & np.uint64(1)).astype(bool).reshape(shape)
    span = (1 << DIGITS[dtype]) + 1 if dtype in DIGITS else int(np.iinfo(dtype).max) + 1
    drawn = remainder(words, span)
    if dtype in (float16, bfloat16):
        drawn = drawn.astype(np.float32)
    return drawn.astype(dtype).reshape(shape)


def random_64_bits(gen, shape, dtype):
    """What random_(-2**63, None) draws: all 64 bits, read as a signed integer and converted."""
    return random64(gen, _count(shape)).view(np.int64).astype(dtype).reshape(shape)

"""A compiled function may return a tensor from outside that nothing in it reads."""

import flambeau as torch

OUTSIDE = torch.arange(3)


def test_a_tensor_that_is_only_returned():
    compiled = torch.compile(lambda x: (x * 2, OUTSIDE, OUTSIDE[1:]))
    for _ in range(3):
        doubled, whole, part = compiled(torch.ones(2))
        assert doubled.tolist() == [2, 2] and whole.tolist() == [0, 1, 2] and part.tolist() == [1, 2]

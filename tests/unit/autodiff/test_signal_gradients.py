"""The Fourier transform against PyTorch's."""

import numpy as np
import pytest
import torch

RNG = np.random.default_rng(9)


def ours(length=None, axis=-2, **attributes):
    def made(x):
        size = None if length is None else x.graph.tensor(np.array(length))
        out = list(x.static_shape)
        out[axis] = length or out[axis]
        if attributes.get("onesided"):
            out[axis] = out[axis] // 2 + 1
        out[-1] = 2
        given = [x, size, x.graph.tensor(np.array(axis))]
        return x.graph.apply("DFT", given, attributes, outputs=[(x.dtype, tuple(out))])[0]

    return made


def pairs(z):
    return torch.view_as_real(z)


@pytest.mark.parametrize("length", [None, 4, 7])
def test_complex_numbers(check_torch, length):
    x = RNG.normal(size=(2, 5, 3, 2))
    for inverse, theirs in ((0, torch.fft.fft), (1, torch.fft.ifft)):
        check_torch(
            ours(length, axis=1, inverse=inverse),
            lambda x, f=theirs: pairs(f(torch.view_as_complex(x), n=length, dim=1)), x, times=2, rtol=1e-3,
            atol=1e-3,
        )  # fmt: skip


@pytest.mark.parametrize("length", [None, 4, 8])
def test_real_numbers_and_one_side(check_torch, length):
    x = RNG.normal(size=(2, 6, 1))
    check_torch(ours(length), lambda x: pairs(torch.fft.fft(x[..., 0], n=length)), x, rtol=1e-3, atol=1e-3)
    check_torch(
        ours(length, onesided=1),
        lambda x: pairs(torch.fft.rfft(x[..., 0], n=length)),
        x,
        rtol=1e-3,
        atol=1e-3,
    )

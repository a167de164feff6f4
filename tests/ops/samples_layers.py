"""Sample arguments for the primitives behind layers: convolution, pooling, normalisation, resampling, recurrence."""

import flambeau as torch


def convolution_samples(make):
    plain = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
    uneven = {"stride": (2, 1), "padding": ((1, 0), (1, 2)), "dilation": (1, 2), "groups": 2}
    line = {"stride": (2,), "padding": ((1, 1),), "dilation": (1,), "groups": 1}
    cube = {"stride": (1, 1, 1), "padding": ((0, 0),) * 3, "dilation": (1, 1, 1), "groups": 1}
    return [
        ((make(2, 3, 4, 5), make(2, 3, 2, 3), make(2)), plain),
        ((make(1, 4, 5, 4), make(4, 2, 2, 2), None), uneven),
        ((make(2, 2, 6), make(3, 2, 3), make(3)), line),
        ((make(1, 2, 3, 3, 2), make(2, 2, 2, 2, 2), None), cube),
        ((make(0, 3, 4, 5), make(2, 3, 2, 3), make(2)), plain),
    ]


def transposed_samples(make):
    plain = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1, "size": (5, 5)}
    uneven = {"stride": (2, 1), "padding": ((1, 1), (0, 0)), "dilation": (1, 1), "groups": 2, "size": (5, 5)}
    return [
        ((make(2, 2, 4, 3), make(2, 3, 2, 3), make(3)), plain),
        ((make(1, 4, 3, 4), make(4, 2, 3, 2), None), uneven),
        ((make(0, 2, 4, 3), make(2, 3, 2, 3), make(3)), plain),
    ]


def max_pool_samples(make):
    over = {"kernel": (3, 2), "stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "count": (3, 3), "track": True}
    apart = {"kernel": (2,), "stride": (2,), "padding": (0,), "dilation": (1,), "count": (3,), "track": True}
    return [((make(2, 2, 5, 5),), over), ((make(1, 2, 6),), apart), ((make(0, 2, 6),), apart)]


def avg_pool_samples(make):
    over = {"kernel": (3, 2), "stride": (2, 1), "padding": (1, 0), "count": (3, 4)}
    line = {"kernel": (2,), "stride": (2,), "padding": (0,), "count": (3,)}
    return [
        ((make(2, 2, 5, 5),), {**over, "include_pad": True, "divisor": None}),
        ((make(2, 2, 5, 5),), {**over, "include_pad": False, "divisor": None}),
        ((make(1, 2, 6),), {**line, "include_pad": True, "divisor": 3}),
        ((make(0, 2, 6),), {**line, "include_pad": True, "divisor": None}),
    ]


def unpool_samples(make):
    positions = torch.tensor([[[1, 3, 6], [0, 4, 5]]])
    return [((make(1, 2, 3), positions), {"size": (7,)}), ((make(0, 2, 3), positions[:0]), {"size": (7,)})]


def norm_samples(axes, shape):
    """With weight and bias of kept dimensions `shape`, and without."""

    def samples(make):
        x = (2, 3, 4)
        empty = tuple(0 if d not in axes else n for d, n in enumerate(x))
        return [
            ((make(*x), make(*shape), make(*shape)), {"axes": axes, "eps": 1e-3}),
            ((make(*x), None, None), {"axes": axes, "eps": 1e-3}),
            ((make(*empty), None, None), {"axes": axes, "eps": 1e-3}),
        ]

    return samples


def resample_samples(make):
    plans = (
        (("linear", 5, None, False, False), ("nearest", 3, None, False, False)),
        (("cubic", 7, None, True, False),),
        (("linear", 2, None, False, True),),
        (("nearest-exact", 6, None, False, False),),
        (("reflect", 2, 1), ("circular", 1, 2)),
        (("replicate", 1, 2),),
    )
    return [((make(2, 3, 4),), {"plan": plan}) for plan in plans] + [((make(0, 3, 4),), {"plan": plans[0]})]


def im2col_samples(make):
    plain = {"kernel": (2, 2), "stride": (1, 2), "padding": (1, 0), "dilation": (1, 1)}
    return [((make(2, 2, 3, 4),), plain), ((make(0, 2, 3, 4),), plain)]


def lstm_samples(make):
    return [
        ((make(5, 8), make(3, 2), make(3, 2), make(8, 2), None), {"sizes": (3, 2), "reverse": False}),
        ((make(5, 8), make(3, 3), make(3, 2), make(8, 3), make(3, 2)), {"sizes": (3, 2), "reverse": True}),
        ((make(0, 8), make(0, 2), make(0, 2), make(8, 2), None), {"sizes": (0, 0), "reverse": False}),
    ]


def gru_samples(make):
    return [
        ((make(5, 6), make(3, 2), make(6, 2), make(6)), {"sizes": (3, 2), "reverse": False}),
        ((make(5, 6), make(3, 2), make(6, 2), None), {"sizes": (3, 2), "reverse": True}),
        ((make(0, 6), make(0, 2), make(6, 2), make(6)), {"sizes": (0, 0), "reverse": False}),
    ]


def rnn_samples(make):
    return [
        ((make(5, 2), make(3, 2), make(2, 2)), {"sizes": (3, 2), "relu": relu, "reverse": reverse})
        for relu in (False, True)
        for reverse in (False, True)
    ] + [((make(0, 2), make(0, 2), make(2, 2)), {"sizes": (0, 0), "relu": False, "reverse": False})]


def ctc_samples(make):
    padded, in_a_row, times, labels = map(torch.tensor, ([[1, 1, 2], [2, 1, 0]], [1, 1, 2, 2, 1], [5, 4], [3, 2]))
    options = {"blank": 0, "zero_infinity": False}
    return [((make(5, 2, 3, low=-3.0, high=-0.2), targets, times, labels), options) for targets in (padded, in_a_row)]


SAMPLES = {
    "convolution": convolution_samples,
    "transposed_convolution": transposed_samples,
    "max_pool": max_pool_samples,
    "avg_pool": avg_pool_samples,
    "adaptive_avg_pool": lambda make: [
        ((make(2, 2, 5, 4),), {"count": (2, 3)}),
        ((make(1, 2, 3),), {"count": (5,)}),
        ((make(0, 2, 3),), {"count": (2,)}),
    ],
    "max_pool_indices": lambda make: [
        (
            (torch.tensor([[[0, 1, 1], [1, 0, 0]]])[:samples],),
            {"size": (6,), "kernel": (2,), "stride": (2,), "padding": (0,), "dilation": (1,)},
        )
        for samples in (1, 0)
    ],
    "gather_planes": lambda make: [
        ((make(2, 2, 3, 2), torch.tensor([[[0, 5, 5]]] * 2)), {}),
        ((make(0, 2, 3), torch.zeros(0, 1, 2, dtype=torch.int64)), {}),
    ],
    "max_unpool": unpool_samples,
    "argmax_boxes": lambda make: [((make(2, 2, 4, 3),), {"boxes": (((0, 2), (1, 4)), ((0, 3),))})],
    "native_batch_norm": norm_samples((0, 2), (3,)),
    "instance_norm": norm_samples((2,), (3,)),
    "native_layer_norm": norm_samples((1, 2), (1, 3, 4)),
    "native_group_norm": norm_samples((2,), (1, 3, 1)),
    "channel_affine": lambda make: [
        ((make(*shape), make(1, 3, 1), make(1, 3, 1)), {}) for shape in ((2, 3, 4), (0, 3, 4))
    ],
    "resample": resample_samples,
    "im2col": im2col_samples,
    "lstm_scan": lstm_samples,
    "gru_scan": gru_samples,
    "rnn_scan": rnn_samples,
    "ctc_loss": ctc_samples,
}

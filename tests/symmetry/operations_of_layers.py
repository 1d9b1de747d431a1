"""Single operations of layers: convolution, pooling, norms, attention, losses, recurrence."""

import torch
from torch import nn
from torch.nn import functional as F

from tests.symmetry.operations import INDEX, A, B, C, D


def positions():
    for groups, out in [(1, 3), (2, 4), (2, 6), (4, 4), (4, 8)]:
        for kernel, options in [
            (1, {}),
            (2, {}),
            (3, {"padding": 1}),
            (2, {"dilation": 2}),
            (1, {"stride": 2}),
        ]:
            yield (
                f"conv1d {groups} {out} {kernel} {options}",
                lambda x, w, b, g=groups, o=options: F.conv1d(x, w, b, groups=g, **o),
                [(A, C, 5), (out, C // groups, kernel), (out,)],
            )
        yield (
            f"conv_transpose1d {groups} {out}",
            lambda x, w, g=groups: F.conv_transpose1d(x, w, groups=g, stride=2),
            [(A, C, 3), (C, 2, 2)],
        )
    for kernel in [(1, 1), (2, 1), (1, 2), (2, 2)]:
        yield f"conv2d {kernel}", F.conv2d, [(A, B, 3, 3), (C, B, *kernel)]
        yield (
            f"conv2d padded {kernel}",
            lambda x, w: F.conv2d(x, w, padding=1),
            [(A, B, 3, 3), (C, B, *kernel)],
        )
        yield f"conv_transpose2d {kernel}", F.conv_transpose2d, [(A, B, 3, 3), (B, C, *kernel)]
    yield "conv2d one position", F.conv2d, [(A, B, 2, 2), (C, B, 2, 2)]
    yield "conv2d unbatched", F.conv2d, [(B, 3, 3), (C, B, 1, 1)]
    yield "conv3d", F.conv3d, [(A, B, 2, 2, 2), (C, B, 1, 2, 1)]
    yield "conv_transpose3d", F.conv_transpose3d, [(A, B, 2, 2, 2), (B, C, 1, 2, 1)]
    for size in [1, 2]:
        yield f"avg_pool1d {size}", lambda x, k=size: F.avg_pool1d(x, k), [(A, B, C)]
        yield f"max_pool1d {size}", lambda x, k=size: F.max_pool1d(x, k), [(A, B, C)]
        yield f"max_pool2d {size}", lambda x, k=size: F.max_pool2d(x, (k, 1)), [(A, B, C, C)]
        yield f"avg_pool2d {size}", lambda x, k=size: F.avg_pool2d(x, (1, k)), [(A, B, C, C)]
        yield f"lp_pool2d {size}", lambda x, k=size: F.lp_pool2d(x, 2, k), [(A, B, C, C)]
        yield (
            f"adaptive_avg2d {size}",
            lambda x, k=size: F.adaptive_avg_pool2d(x, k),
            [(A, B, C, C)],
        )
        yield f"adaptive_avg1d {size}", lambda x, k=size: F.adaptive_avg_pool1d(x, k), [(A, B, C)]
        yield (
            f"adaptive_max2d {size}",
            lambda x, k=size: F.adaptive_max_pool2d(x, k),
            [(A, B, C, C)],
        )
        yield f"avg_pool3d {size}", lambda x, k=size: F.avg_pool3d(x, k), [(A, B, 2, 2, 2)]
    for mode in ["nearest", "bilinear", "bicubic", "area", "nearest-exact"]:
        yield (
            f"interpolate {mode}",
            lambda x, m=mode: F.interpolate(x, scale_factor=2, mode=m),
            [(A, B, 3, 3)],
        )
    yield "interpolate linear", lambda x: F.interpolate(x, size=5, mode="linear"), [(A, B, 3)]
    yield "im2col", lambda x: F.unfold(x, 2), [(A, B, 3, 3)]
    yield "im2col points", lambda x: F.unfold(x, 1), [(A, B, 2, 2)]
    yield "col2im", lambda x: F.fold(x, (3, 3), 2), [(A, 12, 4)]
    yield (
        "grid_sample",
        lambda x, g: F.grid_sample(x, g.tanh(), align_corners=False),
        [(A, B, 3, 3), (A, 2, 2, 2)],
    )
    yield "affine_grid", lambda t: F.affine_grid(t, [2, 1, 2, 2], align_corners=False), [(A, 2, 3)]
    yield (
        "unpool",
        lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), (2, 2)),
        [(A, B, C, C)],
    )
    yield "lrn", lambda x: F.local_response_norm(x, 3), [(A, C, B)]
    for dim in [0, 1, -1]:
        yield f"rfft {dim}", lambda x, d=dim: torch.fft.rfft(x, dim=d).abs(), [(B, B, B)]
        yield f"fft {dim}", lambda x, d=dim: torch.fft.fft(x, dim=d).real, [(B, B, B)]
    yield "fft2", lambda x: torch.fft.fft2(x).abs(), [(A, B, B)]
    yield "irfft", lambda x: torch.fft.irfft(torch.complex(x, x), dim=1), [(A, B)]
    yield "fftshift", lambda x: torch.fft.fftshift(x, 1), [(A, C)]


def norms():
    for groups in [1, 2, 3, 6]:
        yield (
            f"group_norm {groups}",
            lambda x, w, b, g=groups: F.group_norm(x, g, w, b),
            [(A, D, C), (D,), (D,)],
        )
        yield f"group_norm plain {groups}", lambda x, g=groups: F.group_norm(x, g), [(A, D)]
    for shape in [(C,), (B, C)]:
        yield (
            f"layer_norm {shape}",
            lambda x, w, b, s=shape: F.layer_norm(x, s, w, b),
            [(A, B, C), shape, shape],
        )
        yield f"rms_norm {shape}", lambda x, w, s=shape: F.rms_norm(x, s, w), [(A, B, C), shape]
    yield (
        "batch_norm",
        lambda x, m, v, w, b: F.batch_norm(x, m, v.exp(), w, b),
        [(A, B, C), (B,), (B,), (B,), (B,)],
    )
    yield (
        "batch_norm train",
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        [(C, B), (B,), (B,)],
    )
    yield (
        "instance_norm",
        lambda x, w, b: F.instance_norm(x, weight=w, bias=b),
        [(A, B, C), (B,), (B,)],
    )
    for dim in [0, 1]:
        yield (
            f"weight_norm {dim}",
            lambda v, g, d=dim: torch.ops.aten._weight_norm(v, g, d),
            [(B, C), (B, 1) if dim == 0 else (1, C)],
        )
    for heads in [(A, C, D, 4), (A, C, 1, 4), (1, C, D, 4)]:
        yield (
            f"sdpa {heads}",
            F.scaled_dot_product_attention,
            [(A, C, 5, 4), heads, (*heads[:3], 3)],
        )
    yield (
        "sdpa causal",
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        [(A, B, C, D)] * 3,
    )
    yield "sdpa three", F.scaled_dot_product_attention, [(A, B, D), (A, C, D), (A, C, B)]
    for mask in [(B, C), (A, 1, B, C), (1, C), (B, 1)]:
        yield (
            f"sdpa mask {mask}",
            lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, attn_mask=m),
            [(A, A, B, D), (A, A, C, D), (A, A, C, D), mask],
        )
    yield (
        "sdpa gqa",
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        [(A, C, B, D), (A, 2, B, D), (A, 2, B, D)],
    )
    yield "mse", F.mse_loss, [(B, C), (B, C)]
    yield "smooth", lambda a, b: F.smooth_l1_loss(a, b, reduction="none"), [(B, C), (B, C)]
    yield "cross entropy", lambda a: F.cross_entropy(a, INDEX.to(a.device)), [(B, B)]
    yield "soft cross entropy", lambda a, b: F.cross_entropy(a, b.softmax(1)), [(B, C), (B, C)]
    yield "nll rows", lambda a: F.nll_loss(a, INDEX.to(a.device), reduction="none"), [(B, B)]
    yield "kl", lambda a, b: F.kl_div(a, b.exp(), reduction="batchmean"), [(B, C), (B, C)]
    yield "bce", F.binary_cross_entropy_with_logits, [(B, C), (B, C)]
    yield (
        "cosine loss",
        lambda a, b: F.cosine_embedding_loss(a, b, torch.ones(B).to(a)),
        [(B, C), (B, C)],
    )
    yield "triplet", F.triplet_margin_loss, [(B, C), (B, C), (B, C)]
    yield "embedding", lambda w: F.embedding(INDEX.to(w.device), w), [(B, C)]
    for mode in ["sum", "mean", "max"]:
        yield (
            f"bag {mode}",
            lambda w, m=mode: F.embedding_bag(INDEX[None].to(w.device), w, mode=m),
            [(B, C)],
        )


class Layer:
    """A recurrent layer or attention whose inputs are learned too; made anew for every network."""

    def __init__(self, make, read):
        self.make, self.read = make, read


def layers():
    for kind in [nn.LSTM, nn.GRU, nn.RNN]:
        for first in [True, False]:
            for both in [False, True]:
                for depth in [1, 2]:
                    yield (
                        f"{kind.__name__} {first} {both} {depth}",
                        Layer(
                            lambda k=kind, f=first, b=both, d=depth: k(
                                B, C, num_layers=d, batch_first=f, bidirectional=b
                            ),
                            lambda m, x: m(x)[0],
                        ),
                        [(A, D, B)],
                    )
        yield (
            f"{kind.__name__} unbatched",
            Layer(lambda k=kind: k(B, C), lambda m, x: m(x)[0]),
            [(D, B)],
        )
    yield (
        "GRU state",
        Layer(lambda: nn.GRU(B, C), lambda m, x, h: m(x, h)),
        [(D, A, B), (1, A, C)],
    )
    yield (
        "RNN state",
        Layer(lambda: nn.RNN(B, C), lambda m, x, h: m(x, h)[1]),
        [(D, A, B), (1, A, C)],
    )
    yield (
        "LSTM states",
        Layer(lambda: nn.LSTM(B, C), lambda m, x, h, c: m(x, (h, c))[0]),
        [(D, A, B), (1, A, C), (1, A, C)],
    )
    yield ("GRUCell", Layer(lambda: nn.GRUCell(B, C), lambda m, x, h: m(x, h)), [(A, B), (A, C)])
    yield ("RNNCell", Layer(lambda: nn.RNNCell(B, C), lambda m, x, h: m(x, h)), [(D, B), (D, C)])
    yield (
        "LSTMCell",
        Layer(lambda: nn.LSTMCell(B, C), lambda m, x, h, c: m(x, (h, c))),
        [(D, B), (D, C), (D, C)],
    )
    for first in [True, False]:
        yield (
            f"attention {first}",
            Layer(
                lambda f=first: nn.MultiheadAttention(D, 2, batch_first=f),
                lambda m, x: m(x, x, x)[0],
            ),
            [(A, B, D)],
        )
        yield (
            f"attention weights {first}",
            Layer(
                lambda f=first: nn.MultiheadAttention(D, 2, batch_first=f, kdim=C, vdim=B),
                lambda m, q, k, v: m(q, k, v, average_attn_weights=False),
            ),
            [(A, B, D), (A, B, C), (A, B, B)],
        )
    yield (
        "encoder",
        Layer(lambda: nn.TransformerEncoderLayer(D, 2, 8, batch_first=True), lambda m, x: m(x)),
        [(A, B, D)],
    )

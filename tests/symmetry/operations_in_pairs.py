"""Unusual single operations, and two or three that are often used together."""

import torch
from torch.nn import functional as F

from tests.symmetry.operations import INDEX, A, B, C, D


def unusual():
    for dim in [0, 1]:
        for how in ["sum", "amax", "prod", "mean"]:
            yield (
                f"scatter_reduce {dim} {how}",
                lambda a, b, d=dim, h=how: a.scatter_reduce(d, b.argsort(d), b, h),
                [(B, B), (B, B)],
            )
            yield (
                f"index_reduce {dim} {how}",
                lambda a, b, d=dim, h=how: (
                    a.index_add(d, INDEX.to(a.device), b, alpha=2)
                    if h == "sum"
                    else a.index_reduce(d, INDEX.to(a.device), b, h)
                ),
                [(B, B), (B, B)],
            )
            yield (
                f"index_reduce found {dim} {how}",
                lambda a, b, d=dim, h=how: (
                    a.index_add(d, b.argmax(d), b)
                    if h == "sum"
                    else a.index_reduce(d, b.argmax(d), b, h, include_self=False)
                ),
                [(B, B), (B, B)],
            )
        yield (
            f"scatter other {dim}",
            lambda a, b, d=dim: a.scatter(d, b.argsort(1 - d), b),
            [(B, B), (B, B)],
        )
        yield (
            f"put last {dim}",
            lambda a, b, d=dim: a.index_put((b.argmax(d),), b),
            [(B, B), (B, B)],
        )
        yield (
            f"scatter few {dim}",
            lambda a, b, d=dim: a.scatter(d, b.topk(1, d)[1], b),
            [(B, B), (B, B)],
        )
        yield (
            f"scatter ones {dim}",
            lambda a, b, d=dim: a.scatter(d, b.argsort(1 - d), 1.0),
            [(B, B), (B, B)],
        )
        yield (
            f"gather other {dim}",
            lambda a, b, d=dim: a.gather(d, b.argsort(1 - d)),
            [(B, B), (B, B)],
        )
        yield f"gather own {dim}", lambda a, b, d=dim: a.gather(d, b.argsort(d)), [(B, B), (B, B)]
        yield f"gather part {dim}", lambda a, b, d=dim: a.gather(d, b.argsort(d)), [(C, C), (2, C)]
        yield (
            f"put {dim}",
            lambda a, b, d=dim: a.index_put((b.argmax(d),), b, accumulate=True),
            [(B, B), (B, B)],
        )
        yield (
            f"index_copy {dim}",
            lambda a, b, d=dim: a.index_copy(d, INDEX.to(a.device), b),
            [(B, B), (B, B)],
        )
        yield (
            f"index_select of it {dim}",
            lambda a, b, d=dim: a.index_select(d, b.argmax(d)),
            [(B, B), (B, B)],
        )
        yield (
            f"sort both {dim}",
            lambda a, d=dim: a.sort(d)[0] + a.gather(d, a.sort(d)[1]),
            [(B, B)],
        )
        yield (
            f"topk mask {dim}",
            lambda a, d=dim: a * torch.zeros_like(a).scatter(d, a.topk(2, d)[1], 1.0),
            [(B, C)],
        )
        yield (
            f"topk lookup {dim}",
            lambda a, b, d=dim: b.gather(d, a.topk(2, d)[1]),
            [(B, C), (B, C)],
        )
        yield f"trapezoid {dim}", lambda a, d=dim: torch.trapezoid(a, dim=d), [(B, C)]
        yield f"quantile {dim}", lambda a, d=dim: a.quantile(0.3, dim=d), [(B, C)]
        yield f"nanmean {dim}", lambda a, d=dim: a.nanmean(d), [(B, C)]
        yield f"std_mean {dim}", lambda a, d=dim: torch.std_mean(a, d), [(B, C)]
        yield (
            f"vecdot {dim}",
            lambda a, b, d=dim: torch.linalg.vecdot(a, b, dim=d),
            [(B, B), (B, B)],
        )
        yield f"tensor_split {dim}", lambda a, d=dim: a.tensor_split([1, 2], d), [(C, C)]
        yield (
            f"softmax of sums {dim}",
            lambda a, d=dim: a.sum(d, keepdim=True) * a.softmax(d),
            [(C, C)],
        )
        yield f"cat three {dim}", lambda a, b, d=dim: torch.cat([a, b, a], d), [(B, B), (B, B)]
        yield (
            f"cat with zeros {dim}",
            lambda a, d=dim: torch.cat([a, torch.zeros_like(a)], d),
            [(B, C)],
        )
        yield (
            f"weight_norm three {dim}",
            lambda v, g, d=dim: torch.ops.aten._weight_norm(v, g, d),
            [(B, C, A), (B, 1, 1) if dim == 0 else (1, C, 1)],
        )
        yield f"norm_except {dim}", lambda v, d=dim: torch.norm_except_dim(v, 2, d), [(B, C)]
        yield (
            f"stack tied {dim}",
            lambda a, b, d=dim: torch.stack([a, b], d).softmax(d),
            [(B, C), (B, C)],
        )
        yield (
            f"moments {dim}",
            lambda a, d=dim: (a - a.mean(d, True)) / (a.var(d, keepdim=True) + 1),
            [(B, C)],
        )
    yield "cosine of vectors", lambda a, b: F.cosine_similarity(a, b, dim=-1), [(B, C), (C,)]
    yield (
        "cosine outer",
        lambda a, b: F.cosine_similarity(a[:, None], b[None], dim=-1),
        [(B, C), (A, C)],
    )
    yield "pairwise", F.pairwise_distance, [(B, C), (B, C)]
    yield "pairwise broadcast", F.pairwise_distance, [(B, C), (C,)]
    yield "baddbmm broadcast", torch.baddbmm, [(1, B, 1), (A, B, C), (A, C, D)]
    yield "baddbmm row", torch.baddbmm, [(D,), (A, B, C), (A, C, D)]
    yield "addbmm row", torch.addbmm, [(D,), (A, B, C), (A, C, D)]
    yield "linear vector", F.linear, [(C,), (D, C), (D,)]
    yield "linear row", F.linear, [(A, C), (C,)]
    yield "bilinear wide", F.bilinear, [(A, B, C), (A, B, D), (2, C, D)]
    yield "bilinear same", lambda a, w: F.bilinear(a, a, w), [(A, B), (C, B, B)]
    yield "square of itself", lambda a: a @ a, [(B, B)]
    yield "gram", lambda a: a @ a.mT, [(A, B, C)]
    yield "gram columns", lambda a: a.mT @ a, [(B, C)]
    yield "quadratic form", lambda a, b: torch.einsum("bi,ij,bj->b", a, b, a), [(A, B), (B, B)]
    yield "trace of einsum", lambda a: torch.einsum("ii->", a), [(B, B)]
    yield "einsum three times", lambda a: torch.einsum("bi,bj,bk->bijk", a, a, a), [(A, B)]
    yield "matrix_norm", lambda a: torch.linalg.matrix_norm(a), [(A, B, C)]
    yield "nuclear", lambda a: torch.linalg.matrix_norm(a, "nuc"), [(B, C)]
    yield "one norm", lambda a: torch.linalg.matrix_norm(a, 1), [(B, C)]
    yield "eigvalsh", lambda a: torch.linalg.eigvalsh(a + a.mT), [(B, B)]
    yield "pinv", torch.linalg.pinv, [(B, C)]
    yield "qr", lambda a: torch.linalg.qr(a)[1].abs(), [(C, B)]
    yield "vander", lambda a: torch.vander(a, 3), [(B,)]
    yield "logaddexp", torch.logaddexp, [(B, C), (C,)]
    yield "hypot", torch.hypot, [(B, C), (B, 1)]
    yield "copysign", torch.copysign, [(B, C), (C,)]
    yield "searchsorted", lambda a, b: torch.searchsorted(a.sort()[0], b).to(a), [(B,), (C,)]
    yield "take", lambda a: a.take(INDEX.to(a.device)), [(B, C)]
    yield "tril of product", lambda a, b: (a @ b.mT).tril(), [(B, C), (B, C)]
    yield (
        "causal softmax",
        lambda a: (a + torch.full((B, B), -1e3).to(a).triu(1)).softmax(-1),
        [(A, B, B)],
    )
    yield "eye plus", lambda a: a + torch.eye(B).to(a), [(B, B)]
    yield "arange times", lambda a: a * torch.arange(C).to(a), [(B, C)]
    yield "ones times", lambda a: a[:, None] * torch.ones(C, 1).to(a), [(B, C)]
    yield "zeros like", lambda a: torch.zeros_like(a) + a.sum(), [(B, C)]
    yield "in place", lambda a: a.clone().mul_(2).add_(a.mean(0)), [(B, C)]
    yield "write a row", lambda a, b: _written(a, b), [(B, C), (C,)]
    yield "write a column", lambda a, b: _written(a.mT, b), [(B, C), (B,)]
    yield "mixup", lambda a: a + a.flip(0), [(B, C)]
    yield "windows", lambda a: a.view(A, 2, 2, 3).transpose(1, 2).reshape(A, 4, 3), [(A, C, B)]
    yield (
        "patches",
        lambda a: a.view(A, 2, 2, 2, 2).permute(0, 1, 3, 2, 4).reshape(A, 4, 4),
        [(A, C, C)],
    )
    yield "swap halves", lambda a: torch.cat([-a[:, 3:], a[:, :3]], 1) * a, [(A, D)]
    yield "interleaved", lambda a: torch.stack([-a[:, 1::2], a[:, ::2]], -1).flatten(1), [(A, D)]
    yield "nested heads", lambda a, b: (a.view(A, B, C) * b).flatten(1), [(A, 12), (B, 1)]
    yield (
        "two views",
        lambda a: a.view(2, 6).sum(0).repeat(2) + a.view(6, 2).sum(1).repeat(2),
        [(12,)],
    )
    yield (
        "view both",
        lambda a: a.view(3, 4).softmax(-1).flatten() + a.view(4, 3).softmax(-1).flatten(),
        [(12,)],
    )
    yield "shared", lambda a, b: a @ b + b @ a, [(B, B), (B, B)]
    yield "commutator", lambda a: a @ a.mT - a.mT @ a, [(B, B)]
    yield "symmetric", lambda a: a + a.mT, [(B, B)]
    yield "diag of product", lambda a, b: (a @ b).diagonal(), [(B, C), (C, B)]
    yield "outer sum", lambda a, b: a[:, None] + b[None], [(B,), (B,)]
    yield "outer sum of itself", lambda a: (a[:, None] - a[None]).abs(), [(B,)]
    yield "running best", lambda a: a.cummax(0)[0] + a.flip(0).cummax(0)[0].flip(0), [(B, C)]
    yield "max of two", lambda a, b: torch.max(a, b), [(B, C), (1, C)]
    yield "heaviside", torch.heaviside, [(B, C), (C,)]
    yield "isin", lambda a, b: torch.isin(a.round(), b.round()).to(a), [(B, C), (D,)]
    yield "polynomial", lambda a: torch.stack([a**k for k in range(3)], -1), [(B, C)]


def _written(rows, row):
    rows = rows.clone()
    rows[1] = row
    return rows * rows.sum(0)

"""Single operations with their arguments, and the shapes of the tensors that they are given.

Every tensor is a learned parameter, so that each of its axes may become a group.
"""

import torch
from torch.nn import functional as F

A, B, C, D = 2, 3, 4, 6
INDEX = torch.tensor([2, 0, 1])


def elementwise():
    names = [
        "relu",
        "tanh",
        "sigmoid",
        "exp",
        "sin",
        "erf",
        "abs",
        "neg",
        "square",
        "round",
        "sign",
    ]
    yield from ((n, getattr(torch, n), [(B, C)]) for n in names)
    for name in [
        "gelu",
        "silu",
        "elu",
        "selu",
        "celu",
        "softplus",
        "hardswish",
        "hardtanh",
        "mish",
        "relu6",
        "logsigmoid",
        "leaky_relu",
        "softsign",
        "hardsigmoid",
    ]:
        yield name, getattr(F, name), [(B, C)]
    for shape in [(B, C), (C,), (1, C), (B, 1), (A, B, C), (A, 1, C), ()]:
        for name in ["add", "mul", "sub", "div", "maximum", "atan2"]:
            yield f"{name} {shape}", getattr(torch, name), [(B, C), shape]
    yield "addcmul", torch.addcmul, [(B, C), (C,), (B, 1)]
    yield "addcdiv", lambda a, b, c: torch.addcdiv(a, b, 2 + c * c), [(B, C), (C,), (B, 1)]
    yield "lerp", torch.lerp, [(B, C), (B, C), (C,)]
    yield "where", lambda a, b, c: torch.where(a > 0, b, c), [(B, 1), (B, C), (C,)]
    yield "masked_fill", lambda a, b: a.masked_fill(b > 0, 2.0), [(B, C), (C,)]
    yield "clamp", lambda a, b: a.clamp(max=b), [(B, C), (C,)]
    yield "prelu", F.prelu, [(A, B, C), (B,)]
    yield "pow", lambda a, b: a.abs().pow(b), [(B, C), (C,)]
    yield "nan_to_num", torch.nan_to_num, [(B, C)]
    yield "comparison", lambda a, b: (a > b).to(a) + (a <= b.mean()).to(a), [(B, C), (C,)]
    yield "bucketize", lambda a, b: torch.bucketize(a, b.sort()[0]).to(a), [(B, C), (C,)]
    yield "complex", lambda a, b: torch.view_as_real(torch.complex(a, b)), [(B, C), (B, C)]
    yield "polar", lambda a, b: torch.polar(a.abs(), b).real, [(B, C), (B, C)]
    yield "view_as_complex", lambda a: torch.view_as_complex(a).abs(), [(B, C, 2)]
    yield "kron", torch.kron, [(A, B), (B, A)]


def reductions():
    for dim in [0, 1, -1, (0, 1), (0, 2), (1, 2), None]:
        for keep in [False, True]:
            for name in ["sum", "mean", "amax", "logsumexp", "norm"]:
                if not (dim is None and name in ("amax", "logsumexp")):
                    yield (
                        f"{name} {dim} {keep}",
                        lambda a, n=name, d=dim, k=keep: (
                            getattr(torch, n)(a, dim=d, keepdim=k)
                            if d is not None or n != "norm"
                            else a.norm()
                        ),
                        [(A, B, C)],
                    )
            yield f"std {dim} {keep}", lambda a, d=dim, k=keep: a.std(d, keepdim=k), [(A, B, C)]
            yield (
                f"var_mean {dim} {keep}",
                lambda a, d=dim, k=keep: torch.var_mean(a, d, keepdim=k),
                [(A, B, C)],
            )
    for dim in [0, 1, -1]:
        for name in ["prod", "softmax", "log_softmax", "cumsum", "cumprod", "logcumsumexp"]:
            yield f"{name} {dim}", lambda a, n=name, d=dim: getattr(a, n)(dim=d), [(A, B, C)]
        for name in ["max", "min", "median", "mode", "cummax", "sort", "cummin"]:
            yield (
                f"{name} {dim}",
                lambda a, n=name, d=dim: getattr(torch, n)(a, dim=d)[0],
                [(A, B, C)],
            )
        yield f"kthvalue {dim}", lambda a, d=dim: a.kthvalue(2, d)[0], [(A, B, C)]
        yield f"topk {dim}", lambda a, d=dim: a.topk(2, d)[0], [(A, B, C)]
        yield f"glu {dim}", lambda a, d=dim: F.glu(a, d), [(A, D, C)]
        yield f"softmin {dim}", lambda a, d=dim: F.softmin(a, d), [(A, B, C)]
        yield f"normalize {dim}", lambda a, d=dim: F.normalize(a, dim=d), [(A, B, C)]
        yield f"renorm {dim}", lambda a, d=dim: torch.renorm(a, 2, d, 0.5), [(A, B, C)]
        yield f"diff {dim}", lambda a, d=dim: a.diff(dim=d), [(A, B, C)]
        yield f"argmax {dim}", lambda a, d=dim: F.one_hot(a.argmax(d), 4).to(a), [(A, B, C)]
        yield f"argsort {dim}", lambda a, d=dim: a.gather(d, a.argsort(d)), [(A, B, C)]
        yield (
            f"cosine {dim}",
            lambda a, b, d=dim: F.cosine_similarity(a, b, dim=d),
            [(A, B, C), (A, B, C)],
        )
        yield (
            f"cosine broadcast {dim}",
            lambda a, b, d=dim: F.cosine_similarity(a, b, dim=d),
            [(A, B, C), (1, B, C)],
        )
    yield "any", lambda a: (a > 0).any(1).to(a) + (a > -1).all(1).to(a), [(A, B, C)]
    yield "count_nonzero", lambda a: (a > 0).count_nonzero(1).to(a), [(A, B, C)]
    yield "max of all", lambda a: a.max(), [(A, B)]
    yield "aminmax", lambda a: a.aminmax(dim=1)[1], [(A, B)]
    yield "trace", torch.trace, [(B, B)]


def products():
    for a, b in [
        ((C,), (C,)),
        ((B, C), (C,)),
        ((B,), (B, C)),
        ((A, B), (B, C)),
        ((A, A), (A, A)),
        ((A, B, C), (C, D)),
        ((A, B, C), (A, C, D)),
        ((D, 1, B, C), (A, C, B)),
        ((1, B, C), (A, C, B)),
    ]:
        yield f"matmul {a} {b}", torch.matmul, [a, b]
    for text, shapes in [
        ("ij,jk->ik", [(A, B), (B, C)]),
        ("ij,ij->i", [(A, B), (A, B)]),
        ("ii->i", [(B, B)]),
        ("ij->ji", [(A, B)]),
        ("i,j->ij", [(A,), (B,)]),
        ("bij,bjk,bk->bi", [(A, B, C), (A, C, D), (A, D)]),
        ("ijk->", [(A, B, C)]),
        ("...i,...i->...", [(A, B, C), (A, B, C)]),
        ("iji->j", [(A, B, A)]),
        ("bhqd,bhkd->bhqk", [(A, B, C, A), (A, B, D, A)]),
        ("ij,kj", [(A, B), (C, B)]),
        ("ij,jk,kl->il", [(B, B), (B, B), (B, B)]),
    ]:
        yield f"einsum {text}", lambda *v, t=text: torch.einsum(t, *v), shapes
    yield "bmm", torch.bmm, [(A, B, C), (A, C, D)]
    yield "mv", torch.mv, [(B, C), (C,)]
    yield "outer", torch.outer, [(B,), (C,)]
    yield "addmm", torch.addmm, [(C,), (A, B), (B, C)]
    yield "addmm row", torch.addmm, [(A, 1), (A, B), (B, C)]
    yield "addbmm", torch.addbmm, [(B, D), (A, B, C), (A, C, D)]
    yield "baddbmm", torch.baddbmm, [(A, B, D), (A, B, C), (A, C, D)]
    yield "addmv", torch.addmv, [(B,), (B, C), (C,)]
    yield "addr", torch.addr, [(B, C), (B,), (C,)]
    yield "linear", F.linear, [(A, B, C), (D, C), (D,)]
    yield "linear of itself", lambda a: F.linear(a, a), [(B, C)]
    yield "bilinear", F.bilinear, [(A, B), (A, C), (D, B, C), (D,)]
    yield (
        "tensordot",
        lambda a, b: torch.tensordot(a, b, ([0, 2], [1, 0])),  # pyright: ignore[reportArgumentType]  # dims is typed as its default
        [(A, B, C), (C, A, D)],
    )
    for p in [1.0, 2.0]:
        yield f"cdist {p}", lambda a, b, p=p: torch.cdist(a, b, p), [(A, B, C), (A, D, C)]
    yield "cdist broadcast", torch.cdist, [(1, B, C), (A, D, C)]
    yield "pdist", F.pdist, [(C, B)]
    yield "cross", lambda a, b: torch.linalg.cross(a, b, dim=1), [(A, 3), (A, 3)]
    yield "matrix_power", lambda a: torch.linalg.matrix_power(a, 3), [(B, B)]
    yield "multi_dot", lambda a, b, c: torch.linalg.multi_dot([a, b, c]), [(A, B), (B, C), (C, D)]
    yield "inverse", lambda a: torch.linalg.inv(a + 4 * torch.eye(B).to(a)), [(B, B)]
    yield "solve", lambda a, b: torch.linalg.solve(a + 4 * torch.eye(B).to(a), b), [(B, B), (B, C)]
    yield "det", lambda a: torch.linalg.det(a), [(A, B, B)]
    yield "matrix_exp", torch.matrix_exp, [(B, B)]
    yield "svdvals", torch.linalg.svdvals, [(B, C)]
    yield "cholesky", lambda a: torch.linalg.cholesky(a @ a.mT + torch.eye(B).to(a)), [(B, C)]


def layouts():
    for shape, new in [
        ((D, C), (A, B, C)),
        ((A, B, C), (D, C)),
        ((A, B, C), (A, 12)),
        ((D, C), (C, D)),
        ((D, C), (3, 8)),
        ((12,), (3, 4)),
        ((A, D), (12,)),
        ((A, B, C), (C, B, A)),
        ((A, B, C), (B, A, C)),
        ((D, A), (B, 2, 2)),
        ((C, D), (8, 3)),
        ((D,), (1, D, 1)),
    ]:
        yield f"view {shape} {new}", lambda a, n=new: a.reshape(n), [shape]
    for dims in [(0, 2, 1), (2, 1, 0), (1, 2, 0)]:
        yield f"permute {dims}", lambda a, d=dims: a.permute(d), [(A, B, C)]
        yield f"permute flat {dims}", lambda a, d=dims: a.permute(d).flatten(1), [(A, B, C)]
    for dim in [0, 1, -1]:
        yield f"chunk {dim}", lambda a, d=dim: a.chunk(2, d), [(C, D, C)]
        yield f"chunk add {dim}", lambda a, d=dim: torch.add(*a.chunk(2, d)), [(C, D, C)]
        yield f"split {dim}", lambda a, d=dim: a.split([1, 3], d), [(C, C, C)]
        yield f"split uneven {dim}", lambda a, d=dim: a.split(3, d), [(C, C, C)]
        yield f"unbind {dim}", lambda a, d=dim: a.unbind(d), [(A, B, C)]
        yield f"stack {dim}", lambda a, b, d=dim: torch.stack([a, b], d), [(B, C), (B, C)]
        yield f"stack itself {dim}", lambda a, d=dim: torch.stack([a, a], d), [(B, C)]
        yield f"cat {dim}", lambda a, b, d=dim: torch.cat([a, b], d), [(B, B, B), (B, B, B)]
        yield f"cat itself {dim}", lambda a, d=dim: torch.cat([a, a.tanh()], d), [(A, B, C)]
        yield f"roll {dim}", lambda a, d=dim: a.roll(1, d), [(A, B, C)]
        yield f"flip {dim}", lambda a, d=dim: a.flip(d), [(A, B, C)]
        yield f"repeat_interleave {dim}", lambda a, d=dim: a.repeat_interleave(2, d), [(A, B, C)]
        yield f"narrow {dim}", lambda a, d=dim: a.narrow(d, 1, 1), [(A, B, C)]
        yield f"step {dim}", lambda a, d=dim: a.movedim(d, 0)[::2], [(C, C, C)]
        yield f"select {dim}", lambda a, d=dim: a.select(d, -1), [(A, B, C)]
        yield (
            f"index_select {dim}",
            lambda a, d=dim: a.index_select(d, INDEX.to(a.device)),
            [(B, B, B)],
        )
        yield f"gather {dim}", lambda a, d=dim: a.gather(d, a[:1, :, :2].argsort(-1)), [(B, B, B)]
        yield f"take_along {dim}", lambda a, d=dim: a.take_along_dim(a.argsort(d), d), [(B, B, B)]
        yield (
            f"scatter {dim}",
            lambda a, b, d=dim: a.scatter(d, b.argsort(d), b),
            [(B, B), (B, B)],
        )
        yield (
            f"scatter_add {dim}",
            lambda a, b, d=dim: a.scatter_add(d, b[:2].argsort(d) % 2, b[:2]),
            [(B, B), (B, B)],
        )
        yield (
            f"index_add {dim}",
            lambda a, b, d=dim: a.index_add(d, INDEX.to(a.device), b),
            [(B, B), (B, B)],
        )
        yield (
            f"index_fill {dim}",
            lambda a, d=dim: a.index_fill(d, INDEX[:2].to(a.device), 0.0),
            [(B, B)],
        )
        yield f"unfold {dim}", lambda a, d=dim: a.unfold(d, 2, 1), [(B, B, B)]
        yield (
            f"slice_scatter {dim}",
            lambda a, b, d=dim: a.slice_scatter(b, d, 1, 2),
            [(B, B), (1, B) if dim == 0 else (B, 1)],
        )
        yield f"select_scatter {dim}", lambda a, b, d=dim: a.select_scatter(b, d, 1), [(B, B), (B,)]
        yield (
            f"one_hot {dim}",
            lambda a, b, d=dim: F.one_hot(a.argmax(d), B).to(a) @ b,
            [(B, B), (B, B)],
        )
        yield f"lookup {dim}", lambda a, b, d=dim: b[a.argmax(d)], [(B, B), (B, B)]
        yield f"top look-up {dim}", lambda a, b, d=dim: b[a.topk(2, d)[1]].sum(1), [(B, B), (B, B)]
        yield f"squeeze {dim}", lambda a, d=dim: a.unsqueeze(d).expand(*(A,) * 3), [(A, A)]
    for amounts in [(1, 1), (0, 2), (2, 0, 0, 1), (-1, 0)]:
        yield f"pad {amounts}", lambda a, p=amounts: F.pad(a, p), [(B, C)]
    for mode in ["reflect", "replicate", "circular"]:
        yield f"pad {mode}", lambda a, m=mode: F.pad(a, (1, 1), mode=m), [(A, B, C)]
    for counts in [(2, 1), (1, 2), (2, 2), (2, 1, 1)]:
        yield f"repeat {counts}", lambda a, c=counts: a.repeat(c), [(B, C)]
        yield f"tile {counts}", lambda a, c=counts: a.tile(c), [(B, C)]
    yield "expand", lambda a: a.expand(A, B, C), [(1, C)]
    yield "expand rows", lambda a: a.expand(B, C).reshape(12), [(B, 1)]
    for name in ["tril", "triu"]:
        yield name, getattr(torch, name), [(A, B, B)]
    for offset in [0, 1]:
        yield f"diagonal {offset}", lambda a, o=offset: a.diagonal(o, 1, 2), [(A, B, B)]
        yield f"diag_embed {offset}", lambda a, o=offset: a.diag_embed(o), [(A, B)]
    yield "diagonal wide", lambda a: a.diagonal(0, 0, 2), [(A, B, C)]
    yield "diagonal equal", lambda a: a.diagonal(0, 0, 2), [(B, A, B)]
    yield "channel_shuffle", lambda a: F.channel_shuffle(a, 2), [(A, D, B, B)]
    yield "pixel_shuffle", lambda a: F.pixel_shuffle(a, 2), [(A, 8, A, B)]
    yield "pixel_unshuffle", lambda a: F.pixel_unshuffle(a, 2), [(A, B, C, C)]
    yield "index two", lambda a: a[INDEX.to(a.device)[:2], :, INDEX.to(a.device)[1:]], [(B, B, B)]
    yield "index list", lambda a: a[:, [2, 0]], [(B, C)]
    yield "meshgrid", lambda a, b: torch.add(*torch.meshgrid(a, b, indexing="ij")), [(B,), (C,)]
    yield "cartesian", torch.cartesian_prod, [(B,), (C,)]
    yield "block_diag", torch.block_diag, [(A, B), (B, A)]
    yield "movedim", lambda a: a.movedim(0, -1).flatten(), [(A, B, C)]
    yield "rot90", lambda a: a.rot90(), [(B, B)]
    yield "unflatten", lambda a: a.unflatten(1, (2, 3)).transpose(1, 2).flatten(1), [(A, D)]
    yield "put by mask", lambda a, b: a.masked_scatter(b > 0, a * 2), [(B, B), (B, B)]
    yield "index_put", lambda a, b: a.index_put((INDEX.to(a.device),), b), [(B, C), (B, C)]

"""Operations of torch by what they do to the entries of a tensor, for `_distinct.py`."""

from collections.abc import Mapping

KINDS = {
    # The same entries, all of them, elsewhere.
    "whole": """view _unsafe_view reshape flatten unflatten permute transpose t swapaxes mT numpy_T
        adjoint mH unsqueeze squeeze expand expand_as broadcast_to clone contiguous alias detach
        lift_fresh_copy _to_copy to""",
    # Some of them, or those of several.
    "moved": """repeat tile repeat_interleave cat concat concatenate hstack vstack dstack stack
        slice select split split_with_sizes chunk tensor_split unbind diagonal type_as copy
        channel_shuffle pixel_shuffle pixel_unshuffle flip roll dropout native_dropout
        feature_dropout alpha_dropout slice_scatter select_scatter conj _conj _conj_physical
        resolve_conj resolve_neg view_as_real view_as_complex real imag""",
    # A smooth function of each.
    "smooth": """neg exp exp2 expm1 tanh sigmoid log_sigmoid softplus sin sinh asinh atan erf gelu
        silu mish elu selu celu leaky_relu prelu reciprocal glu _weight_norm
        _weight_norm_interface upsample_nearest1d upsample_nearest2d upsample_nearest3d
        upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d
        _upsample_bilinear2d_aa _upsample_bicubic2d_aa _upsample_nearest_exact1d
        _upsample_nearest_exact2d _upsample_nearest_exact3d""",
    # The same of a number and its opposite; or of no number below zero.
    "even": "abs square cos cosh",
    "root": "sqrt rsqrt log log2 log10 log1p",
    # Many in one, which a softmax or a difference from the mean may keep constant.
    "sum": """sum mean prod logsumexp linalg_vector_norm norm nansum var std var_mean std_mean
        norm_except_dim cumsum logcumsumexp avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d
        adaptive_avg_pool2d _adaptive_avg_pool2d adaptive_avg_pool3d""",
    "pick": """amax amin max min median nanmedian mode kthvalue topk sort msort max_pool1d
        max_pool2d max_pool3d max_pool2d_with_indices adaptive_max_pool1d adaptive_max_pool2d
        adaptive_max_pool3d""",
    "share": "softmax _softmax log_softmax _log_softmax softmin",
    "norm": """layer_norm native_layer_norm rms_norm _fused_rms_norm batch_norm native_batch_norm
        _native_batch_norm_legit _native_batch_norm_legit_no_training instance_norm group_norm
        native_group_norm""",
    "product": """linear matmul mm bmm mv dot vdot addmm baddbmm addmv addbmm cdist _cdist_forward
        outer ger einsum bilinear tensordot conv1d conv2d conv3d conv_transpose1d
        conv_transpose2d conv_transpose3d""",
    "look-up": "embedding index index_select gather",
    "plus": "add sub rsub",
    "times": "mul div",
    "either": "maximum minimum where masked_scatter",
    "recurrent": "lstm gru rnn_tanh lstm_cell gru_cell rnn_tanh_cell",
    "power": "pow",
    "scatter": "scatter",
    "put": "index_put",
    "attention": "scaled_dot_product_attention",
    "number": "full scalar_tensor",
    "order": "argsort",
}
NOT_NEGATIVE = """exp exp2 sigmoid softplus softmax _softmax softmin abs square cosh norm std var
    linalg_vector_norm"""
KIND_OF: Mapping[str, str] = {name: kind for kind, names in KINDS.items() for name in names.split()}
POSITIVE = frozenset(NOT_NEGATIVE.split())

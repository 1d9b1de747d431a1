"""Rules of Fourier transforms: transformed axes are fixed, all others pass."""

from collections.abc import Sequence

from symport.symmetry.axes import Call, Result, rule_for
from symport.symmetry.rules._spatial import in_order

REASON = "transformed to or from frequencies"


@rule_for(
    "fft_fft",
    "fft_ifft",
    "fft_rfft",
    "fft_irfft",
    "fft_hfft",
    "fft_ihfft",
    "fft_fft2",
    "fft_ifft2",
    "fft_rfft2",
    "fft_irfft2",
    "fft_hfft2",
    "fft_ihfft2",
    "fft_fftn",
    "fft_ifftn",
    "fft_rfftn",
    "fft_irfftn",
    "fft_hfftn",
    "fft_ihfftn",
    "fft_fftshift",
    "fft_ifftshift",
    "_fft_r2c",
    "_fft_c2r",
    "_fft_c2c",
)
def transform(call: Call) -> Result:
    """The transformed axes are fixed, and their lengths may change."""
    return in_order(call, _dims(call, len(call["self"].axes)), REASON)


def _dims(call: Call, ndim: int) -> Sequence[int]:
    """The transformed axes; by default the last ones, as many as there are sizes."""
    dim, sizes = call.arguments.get("dim"), call.arguments.get("s")
    if dim is None:
        return range(ndim - len(sizes) if sizes is not None else 0, ndim)
    return [dim] if isinstance(dim, int) else dim

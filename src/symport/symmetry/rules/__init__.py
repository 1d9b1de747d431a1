"""The rules of torch's operations, grouped by theme; importing this package registers them."""

from symport.symmetry.rules import (
    _attention as _attention,
)
from symport.symmetry.rules import (
    _elementwise as _elementwise,
)
from symport.symmetry.rules import (
    _fourier as _fourier,
)
from symport.symmetry.rules import (
    _index as _index,
)
from symport.symmetry.rules import (
    _layout as _layout,
)
from symport.symmetry.rules import (
    _linear as _linear,
)
from symport.symmetry.rules import (
    _make as _make,
)
from symport.symmetry.rules import (
    _norm as _norm,
)
from symport.symmetry.rules import (
    _pool as _pool,
)
from symport.symmetry.rules import (
    _recurrent as _recurrent,
)
from symport.symmetry.rules import (
    _reduce as _reduce,
)
from symport.symmetry.rules import (
    _spatial as _spatial,
)
from symport.symmetry.rules import (
    _write as _write,
)
from symport.symmetry.rules._layout import segments

__all__ = ["segments"]

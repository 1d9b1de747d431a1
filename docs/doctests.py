"""Let the reference show docstring sections named `Example:` as code, as it does `Examples:`."""

import re
from typing import Any

import griffe


class Doctests(griffe.Extension):
    """Rename the sections before they are parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(
                r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE
            )

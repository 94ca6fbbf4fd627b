"""Docstrings here head a doctest with `Example:`; the site's reader knows it as `Examples:`."""

import griffe


class Examples(griffe.Extension):
    """Let it read ours."""

    def on_object(self, *, obj, **_):
        """Rename the section."""
        if obj.docstring is not None:
            obj.docstring.value = obj.docstring.value.replace("Example:\n", "Examples:\n")

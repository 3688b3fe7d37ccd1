"""Why a source cannot be read as a classification problem."""


class SourceError(ValueError):
    """There is no usable image data at this source."""


class WithoutClassesError(SourceError):
    """Its folders are no classes: something beside them may tell."""

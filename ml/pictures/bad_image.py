"""What is said of a picture that cannot be used."""


class BadImage(ValueError):
    """An image that cannot be used; `code` is a stable upper-case word, the message says why."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code

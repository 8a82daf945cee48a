"""The exceptions for mistakes that a user can correct."""


class DreamError(ValueError):
    """Raised for mistakes that a user can correct.

    The message is one line that names the picture, the option or the device, and says what is wrong with it and what is
    allowed.
    """


class NoGradient(DreamError):
    """Raised if the gradient is zero everywhere, so that there is nothing in a picture to increase."""

"""The exception for what a user can mend."""


class DreamError(ValueError):
    """One line for people: the picture, the option or the device, what is wrong with it, what is allowed."""

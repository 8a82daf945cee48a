"""The one exception that conversion raises for what a user can mend."""


class ConvertError(ValueError):
    """One line for people: the file, the layer or the option, what is wrong with it, what is allowed."""

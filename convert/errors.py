"""The one exception that conversion raises for what a user can mend."""


import difflib


class ConvertError(ValueError):
    """One line for people: the file, the layer or the option, what is wrong with it, what is allowed."""


def no_such_end(end, valid):
    """The error for an `end` that is not there: it offers the nearest that are."""
    near = difflib.get_close_matches(end, valid, 3, 0.4) or [v for v in valid if end and end in v][:3]
    hint = f"the nearest are {', '.join(near)}" if near else f"the first are {', '.join(valid[:5])}"
    return ConvertError(f"no such end: '{end}'; {hint}; {len(valid)} in all: "
                        "`python -m deepdream layers` or `python -m convert --list` lists them")

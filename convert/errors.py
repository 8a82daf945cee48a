"""The one exception that conversion raises for what a user can mend, and how a name from outside is shown in it."""
import difflib


class ConvertError(ValueError):
    """One line for people: the file, the layer or the option, what is wrong with it, what is allowed."""


def shown(text, most=80):
    """A name from outside as a message of one line can hold it: what is longer than about `most` characters loses its
    middle, and what does not print (control characters, halves of characters) is written as Python writes it."""
    text = str(text)
    if len(text) > 2 * most:      # the rest is not looked at
        text = text[:most] + text[-most:]
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    behind = most // 3
    return text if len(text) <= most else f"{text[:most - behind - 3]}...{text[-behind:]}"


def no_such_end(end, valid):
    """The error for an `end` that is not there: it offers the nearest that are."""
    near = difflib.get_close_matches(end, valid, 3, 0.4) or [v for v in valid if end and end in v][:3]
    hint = f"the {'nearest' if near else 'first'} are {', '.join(map(shown, near or valid[:5]))}"
    return ConvertError(f"no such end: '{shown(end)}'; {hint}; {len(valid)} in all: "
                        "`python -m deepdream layers` or `python -m convert --list` lists them")

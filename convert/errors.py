"""The one exception that conversion raises for what a user can mend, and what its messages are made of."""
import contextlib
import difflib


class ConvertError(ValueError):
    """One line for people: the file, the layer or the option, what is wrong with it, what is allowed."""


@contextlib.contextmanager
def about(path, *others):
    """The boundary around a net's file, or files, that others wrote: whatever they bring about, in the libraries that
    read them too, becomes one line with the name of one of them, the first if there is none in it. The cause stays
    attached, for those who look for it in Python."""
    try:
        yield
    except ConvertError as error:
        if any(str(p) in str(error) for p in (path, *others)):
            raise
        raise ConvertError(f"{path}: {error}") from error
    except RecursionError as error:
        raise ConvertError(f"{path}: damaged, or no net: it is nested too deeply") from error
    except MemoryError as error:
        raise ConvertError(f"{path}: not enough memory for what it asks for") from error
    except Exception as error:
        what = shown(" ".join(str(error).split()), 200)
        raise ConvertError(f"{path}: damaged, or no net that is known here ({type(error).__name__}: {what})") from error


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

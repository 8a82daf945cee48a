"""Errors for misspelled keyword arguments, which name the argument that was probably meant."""
from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable

NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def unexpected(function: str, name: str, allowed: Iterable[str]) -> TypeError:
    """Return the error for an argument that a function does not have.

    function: the name of the function.
    name: the argument.
    allowed: the arguments that it has.
    """
    from difflib import get_close_matches
    allowed, word = list(allowed), name.lower()
    near = [other for other in allowed if other.startswith(word)] or get_close_matches(word, allowed, 1)
    hint = f"did you mean {near[0]}?" if near else f"its arguments are {', '.join(allowed)}"
    return TypeError(f"{function}() has no argument '{name}'; {hint}")


def arguments_of(*functions: Callable) -> list[str]:
    """List the names of the arguments of functions, each once, without *args and **kwargs."""
    return list(dict.fromkeys(name for function in functions
                              for name, parameter in inspect.signature(function).parameters.items()
                              if parameter.kind in NAMED))


def accepts_any(function: Callable) -> bool:
    """Return whether a function takes arguments of any name."""
    return any(p.kind == inspect.Parameter.VAR_KEYWORD for p in inspect.signature(function).parameters.values())


def suggesting(function: Callable) -> Callable:
    """Decorate a function that takes no **kwargs, so that a misspelled argument raises the error of `unexpected`.

    An `__init__` is called by the name of its class.
    """
    allowed = arguments_of(function)
    name = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]
    shown = [word for word in allowed if word != "self"]

    @functools.wraps(function)
    def checked(*args, **kwargs):
        for word in kwargs:
            if word not in allowed:
                raise unexpected(name, word, shown)
        return function(*args, **kwargs)
    return checked

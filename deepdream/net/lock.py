"""A decorator that lets only one thread at a time compute on a net."""
import functools
from collections.abc import Callable


def exclusive(function: Callable) -> Callable:
    """Decorate a function whose first argument is a net, or a method of a net, so that it holds the net's lock.

    Other threads that compute on the same net wait until it returns.
    """
    @functools.wraps(function)
    def locked(net, *args, **kwargs):
        with net.lock:
            return function(net, *args, **kwargs)
    return locked

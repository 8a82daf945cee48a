"""One thread at a time for what computes on a net."""
import functools


def exclusive(function):
    """A function, or a method, of a net that holds the net's lock while it runs: another thread waits."""
    @functools.wraps(function)
    def held(net, *args, **more):
        with net.lock:
            return function(net, *args, **more)
    return held

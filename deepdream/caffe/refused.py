"""What pycaffe has and the stand-in has not: names that can be imported, and that say what to do when they are used."""


class Refused:
    """Something that is not supported. Calling it or reading its attributes raises an error with advice.

    name: its full name.
    advice: what to do instead.
    """

    def __init__(self, name: str, advice: str):
        self.__name__, self._message = name, f"{name} is not supported here: {advice}"

    def __call__(self, *arguments, **options):
        raise NotImplementedError(self._message)

    def __mro_entries__(self, bases):
        raise NotImplementedError(self._message)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(self._message)

    def __repr__(self):
        return f"<{self._message}>"

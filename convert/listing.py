"""The valid ends of a net as a table for people."""
from .errors import shown

LONG = 400    # characters of a name
FEW = 4       # names of what is left out for one reason


def listing(ends, left_out):
    """The table of ends, and behind it a line for each reason why others are none.

    ends: as from `convert.valid_ends`. left_out: {name: reason}.
    """
    behind = {}
    for name, reason in left_out.items():
        behind.setdefault(reason, []).append(name)
    return "\n".join([ends_table(ends), *(_left_out(reason, names) for reason, names in behind.items())])


def _left_out(reason, names):
    some = [shown(name) for name in names[:FEW]] + ["..."] * (len(names) > FEW)
    return f"left out, {len(names)} result{'s' * (len(names) > 1)}: {shown(reason.rstrip(','), LONG)}: {', '.join(some)}"


def ends_table(ends):
    """One line an end: name, channels, stride (pixels of the input for one of the end's; - if it has no place) and, of
    nets that are not Caffe's, the operator.

    ends: as from `convert.valid_ends`.
    """
    names = [shown(name, LONG) for name in ends]
    width = max(map(len, names), default=0)
    return "\n".join(f"{name:{width}}  {str(end.channels or '-'):>6}  {_stride(end.stride):>6}"
                     + (f"  {shown(end.operator)}" if end.operator else "") for name, end in zip(names, ends.values()))


def _stride(stride):
    if stride is None:
        return "-"
    return f"{stride[0]:g}" if stride[0] == stride[1] else f"{stride[0]:g}x{stride[1]:g}"

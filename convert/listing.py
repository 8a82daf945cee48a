"""The valid ends of a net as a table of text."""
from __future__ import annotations

from .errors import shown
from .facts import End

NAME_LENGTH = 400    # characters of a name or a reason
NAMES = 4            # names that are listed for one reason


def listing(ends: dict[str, End], left_out: dict[str, str]) -> str:
    """Write the table of ends, followed by one line for each reason why other names are not valid ends.

    ends: as returned by `convert.valid_ends`.
    left_out: {name: reason}.
    """
    by_reason = {}
    for name, reason in left_out.items():
        by_reason.setdefault(reason, []).append(name)
    return "\n".join([ends_table(ends), *(_left_out(reason, names) for reason, names in by_reason.items())])


def _left_out(reason, names):
    some = [shown(name) for name in names[:NAMES]] + ["..."] * (len(names) > NAMES)
    return (f"left out, {len(names)} result{'s' * (len(names) > 1)}: {shown(reason.rstrip(','), NAME_LENGTH)}: "
            f"{', '.join(some)}")


def ends_table(ends: dict[str, End]) -> str:
    """Write one line for each end: name, channels, stride and, for nets that are not Caffe's, the operator.

    The stride is the number of input pixels for one position of the end, or - if the end has no spatial axes. An end
    with its channels last is marked: `tokens x channels` without spatial axes, else `channels last`; so is the end of a
    block. A line that starts with # names the block of the ends that follow.

    ends: as returned by `convert.valid_ends`.
    """
    names = [shown(name, NAME_LENGTH) for name in ends]
    width, block, lines = max(map(len, names), default=0), None, []
    for name, end in zip(names, ends.values()):
        if end.block != block:
            lines.append(f"# {shown(end.block or 'in no block', NAME_LENGTH)}")
        block = end.block
        lines.append(f"{name:{width}}  {str(end.channels or '-'):>6}  {_stride(end.stride):>6}"
                     + (f"  {shown(end.operator)}{_axes(end)}" if end.operator else "") + ", end of a block" * end.good)
    return "\n".join(lines)


def _axes(end):
    if not end.channels_last:
        return ""
    return "  channels last" if end.stride else "  tokens x channels"


def _stride(stride):
    if stride is None:
        return "-"
    return f"{stride[0]:g}" if stride[0] == stride[1] else f"{stride[0]:g}x{stride[1]:g}"

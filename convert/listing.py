"""The valid ends of a net as a table for people."""


def ends_table(ends):
    """One line an end: name, channels, stride (pixels of the input for one of the end's; - if it has no place) and, of
    nets that are not Caffe's, the operator.

    ends: as from `convert.valid_ends`.
    """
    width = max(map(len, ends))
    return "\n".join(f"{name:{width}}  {str(end.channels or '-'):>6}  {_stride(end.stride):>6}"
                     + (f"  {end.operator}" if end.operator else "") for name, end in ends.items())


def _stride(stride):
    if stride is None:
        return "-"
    return f"{stride[0]:g}" if stride[0] == stride[1] else f"{stride[0]:g}x{stride[1]:g}"

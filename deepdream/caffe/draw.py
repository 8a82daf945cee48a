"""Stands in for `caffe.draw`, which is not supported."""
from .refused import Refused

ADVICE = "`python -m deepdream layers --model FOLDER` lists a net's layers"
draw_net, draw_net_to_file, get_pydot_graph = (Refused(f"caffe.draw.{name}", ADVICE) for name in
                                               ("draw_net", "draw_net_to_file", "get_pydot_graph"))

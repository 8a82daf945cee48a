"""List the nets that can be used by name, and download their files.

    deepdream models
    deepdream models --fetch bvlc_googlenet

The list says where the files of each net are: `shipped` with this package, `cached` after a download, `partial` after
an interrupted download, or `absent`; absent files are downloaded when the net is first used. models/README.md in the
project's repository has more about them.
"""
from argparse import ArgumentParser, Namespace


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("--fetch", metavar="NAME", help="download the files of this net now, rather than when it is "
                        "first used")


def run(args: Namespace) -> int | None:
    """Run this command. Returns its exit code; None means 0."""
    from ... import models
    if args.fetch:
        model = models.fetch(args.fetch)
        print(f"{model.name}: {model.folder}")
        return
    names = models.names()
    width = max(map(len, names))
    cache, damaged = models.cache_dir(), 0
    for name in names:
        try:
            print(f"{name:{width}}  {models.status(name):8} {models.card(name).title}")
        except models.ModelError as error:      # a damaged model card; the others are listed all the same
            print(f"{name:{width}}  damaged  {error}")
            damaged += 1
    print(f"\ndownloads go to {cache}")
    return 2 if damaged else 0

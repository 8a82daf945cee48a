"""List the models that have a name here, and what of them is on disk; fetch their files.

    deepdream models
    deepdream models --fetch bvlc_googlenet
"""


def arguments(parser):
    parser.add_argument("--fetch", metavar="NAME", help="download a model's files now (its first use does it too)")


def run(args):
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
        except models.ModelError as error:      # of one record: the others are listed
            print(f"{name:{width}}  damaged  {error}")
            damaged += 1
    print(f"\ndownloads go to {cache}")
    return 2 if damaged else 0

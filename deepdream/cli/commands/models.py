"""List the nets that can be used by name; download their files, remove them, or check where they come from.

    deepdream models                              a table of all nets
    deepdream models --search places              the nets whose description mentions places
    deepdream models --fetch bvlc_googlenet       download a net now, rather than when it is first used
    deepdream models --remove bvlc_googlenet      delete what was downloaded of a net
    deepdream models --check --search oxford      ask the servers of some nets whether they still have the files
    deepdream models --add net.onnx               write net.toml, the model card of your own net, next to it

In the table, nets that come with this package are `shipped`; of the others, it says whether they are on disk: `yes`,
`no`, or `partly` after an interrupted download. Sizes that nobody published are estimated (~).

--check downloads nothing. It asks each address for the size of its file, prints the answers, and repeats those that are
dead. The exit code is 1 if a net can no longer be downloaded.
"""
import contextlib
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from ...errors import DreamError

ON_DISK = {"shipped": "shipped", "cached": "yes", "partial": "partly", "absent": "no"}      # by `models.status`


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("--search", nargs="+", default=[], metavar="WORD", help="only nets whose name, description or "
                        "licence contains all these words")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--fetch", metavar="NAME", help="download the files of this net now, rather than when it is "
                        "first used")
    action.add_argument("--remove", metavar="NAME", help="delete the downloaded files of this net from the cache")
    action.add_argument("--add", metavar="FILE", help="write a model card for an .onnx file, next to it: what can be "
                        "seen in the file, with comments on what to check")
    action.add_argument("--check", action="store_true", help="ask every address for the size of its file, without "
                        "downloading any")


def run(args: Namespace) -> int:
    """Run this command. Returns its exit code."""
    from ... import models
    if args.search and (args.fetch or args.remove or args.add):
        other = "fetch" if args.fetch else "remove" if args.remove else "add"
        raise DreamError(f"--search: only for the table and --check, not with --{other}")
    if args.add:
        from ..new_card import add_card
        print(add_card(args.add))
        return 0
    if args.fetch:
        model = models.fetch(args.fetch)
        print(f"{model.name}: {model.folder}")
        return 0
    if args.remove:
        freed = models.remove(args.remove)
        print(f"{args.remove}: {_readable(freed)} freed" if freed else f"{args.remove}: nothing to remove")
        return 0
    cards, damaged = _cards(args.search)
    if not cards and args.search:
        print(f"no net matches {' '.join(args.search)}")
        return 1
    if args.check:
        lost = _check([card.name for card in cards])
    else:
        lost = []
        _table(cards)
    for name, error in damaged.items():
        print(f"{name}  damaged  {error}")
    if not args.check and not args.search:
        print(f"\n{_disk_used(cards)}")
    return 2 if damaged else 1 if lost else 0


def _cards(words):
    """Return the cards that contain all the words, and {name: error} for the damaged cards."""
    from ... import models
    cards, damaged = [], {}
    for name in models.names():
        try:
            card = models.card(name)
        except models.ModelError as error:      # the others are listed all the same
            damaged[name] = error
            continue
        text = " ".join((name, card.title, card.dreams, card.made_from, card.citation, card.licence)).lower()
        if all(word.lower() in text for word in words):
            cards.append(card)
    return cards, damaged


def _table(cards):
    from ... import models
    rows = [("NAME", "DREAMS OF", "SIZE", "ON DISK", "LICENCE")]
    for card in cards:
        size, exact = models.size(card)
        licence = card.licence.split(",")[0].split(";")[0]
        rows.append((card.name, card.dreams, ("" if exact else "~") + _readable(size),
                     ON_DISK[models.status(card.name)], licence))
    a, b, c, d, _ = (max(map(len, column)) for column in zip(*rows))
    for name, dreams, size, status, licence in rows:
        print(f"{name:{a}}  {dreams:{b}}  {size:>{c}}  {status:{d}}  {licence}")


def _disk_used(cards):
    from ... import models
    from ...runtime import cache
    downloads = sum(sum(models.downloaded(card.name).values()) for card in cards)
    graphs = 0
    with contextlib.suppress(OSError):          # another process cleans up
        graphs = sum(path.stat().st_size for path in cache.folder().glob("*"))
    return (f"disk used: {_readable(downloads)} of downloads and {_readable(graphs)} of converted graphs in "
            f"{models.cache_dir()}")


def _check(names: Sequence[str]) -> list[str]:
    """Print what each address answers, then the dead ones. Returns the nets that can no longer be downloaded."""
    from ... import models
    sources = []
    for source in models.check(names):
        if not sources or sources[-1].model != source.model:
            print(source.model)
        size = "size unknown" if source.size is None else _readable(source.size)
        print(f"    {source.problem or 'ok, ' + size}: {source.url}", flush=True)
        sources.append(source)
    dead = [source for source in sources if source.problem]
    print(f"\n{len(sources)} addresses of {len(names)} net{'s' * (len(names) > 1)}, {len(dead)} of them dead")
    if dead and all(source.problem == "no connection" for source in sources):
        print("no server can be reached: is there a network?")
        return list(names)
    for source in dead:
        print(f"dead: {source.model}: {source.file.name}: {source.problem}: {source.url}")
    lost = models.lost(sources)
    if lost:
        print(f"can no longer be downloaded: {', '.join(lost)}")
    return lost


def _readable(size: int) -> str:
    """Write a number of bytes as '53.5 MB'."""
    for unit, factor in (("GB", 10 ** 9), ("MB", 10 ** 6), ("kB", 10 ** 3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"

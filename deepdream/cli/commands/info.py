"""Show what is installed and what dreams will run on: versions, devices, CPU threads, memory, cache, models.

    deepdream info
    deepdream info --json

If no NVIDIA GPU is used, it says why, and what to install. Copy the output into a bug report.
"""
from argparse import ArgumentParser, Namespace


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("--json", action="store_true", help="print everything as JSON, sizes in bytes")


def run(args: Namespace) -> None:
    """Run this command."""
    from ...runtime.inventory import inventory
    facts = inventory()
    if args.json:
        import json
        print(json.dumps(facts, indent=1))
    else:
        print("\n".join(lines(facts)))


def lines(facts: dict) -> list[str]:
    """Return the text of the command. facts: from `runtime.inventory.inventory`."""
    sections = (_versions, _devices, _files, _models, _optional)
    rows = [row for section in sections for row in section(facts)] + [("problem", p) for p in facts["problems"]]
    width = max(len(name) for name, _ in rows) + 2
    return [f"{name:{width}}{text}" for name, text in rows]


def size(number: float | None) -> str:
    """Return a number of bytes in words."""
    if number is None:
        return "unknown"
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if number >= factor:
            return f"{number / factor:.1f} {unit}"
    return f"{number:.0f} bytes"


def _versions(facts):
    yield "deepdream", f"{facts['version']}, Python {facts['python']}, {facts['platform']}"
    if ort := facts["onnxruntime"]:
        yield "onnxruntime", f"{ort['version']} ({', '.join(ort['packages']) or 'of an unknown package'}), providers " \
            + ", ".join(name.removesuffix("ExecutionProvider") for name in ort["providers"])
    yield "packages", ", ".join(f"{name} {version or 'missing'}" for name, version in facts["packages"].items())


def _devices(facts):
    yield "dreams run on", facts["device"] + ("" if facts["cuda_problem"] is None else
                                              f", because CUDA is not available: {facts['cuda_problem']}")
    if facts["advice"]:
        yield "for CUDA", facts["advice"]
    for i, gpu in enumerate(facts["gpus"]):
        yield f"cuda:{i}", f"{gpu['name'] or 'unknown'}, {size(gpu['memory'])}, {size(gpu['free'])} free"
    cpu = facts["cpu"]
    yield "cpu", f"{cpu['name'] or 'unknown'}, {cpu['cores'] or 'unknown'} cores ({cpu['logical'] or 'unknown'} " \
        f"logical); dreams use {cpu['threads'] or 'as many'} threads unless --threads says otherwise"
    yield "free memory", size(facts["free_memory"])


def _files(facts):
    cache = facts["cache"]
    if cache:
        yield "cache", f"{cache['folder']}: {cache['files']} files, {size(cache['bytes'])}"


def _models(facts):
    statuses = facts["models"] or {}
    for status in sorted(set(statuses.values()), key=lambda status: (status == "absent", status)):
        names = [name for name, value in statuses.items() if value == status]
        yield f"models {status}", f"{len(names)}; `deepdream models` lists them" if status == "absent" else \
            ", ".join(names)


def _optional(facts):
    for package, entry in facts["optional"].items():
        yield package, ("found" if entry["found"] else f"not found: pip install {package}") + f" ({entry['purpose']})"

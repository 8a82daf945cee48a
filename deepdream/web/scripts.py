"""Join small JavaScript modules into one script, for a page that is a single file."""
from __future__ import annotations

import re
from pathlib import Path

IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w.]+)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=async function|function|class|const)", re.MULTILINE)
DECLARED = re.compile(r"^(?:async )?(?:function\*? |class )(\w+)|^(?:const|let) (.*)", re.MULTILINE)
VARIABLE = re.compile(r"(?:^|, )(?:(\w+)|[{\[]([^}\]]*)[}\]]) =(?![=>])")


def joined(folder: Path, entry: str) -> str:
    """Return one script that does what a module does.

    folder: the folder of the modules.
    entry: the file name of the module. It and those that it imports are written one after another, so they may only
        use `import {names} from "./file.js";` and `export` before a declaration, and no name may be declared twice.
    """
    parts, owners = [], {}
    for name in modules(folder, entry):
        text = EXPORT.sub("", IMPORT.sub("", (folder / name).read_text(encoding="utf-8")))
        for line in re.findall(r"^(?:import|export)\b.*", text, re.MULTILINE):
            raise ValueError(f"{name}: cannot be joined: {line}")
        for declared in _declared(text):
            if declared in owners:
                raise ValueError(f"{name}: declares {declared}, which {owners[declared]} declares, too")
            owners[declared] = name
        parts.append(text)
    return "\n".join(parts)


def modules(folder: Path, entry: str) -> list[str]:
    """List the file names of a module and of all that it imports, each after those that it needs."""
    order = []
    _collect(folder, entry, order)
    return order


def _collect(folder, name, order):
    if name not in order:
        for other in IMPORT.findall((folder / name).read_text(encoding="utf-8")):
            _collect(folder, other, order)
        order.append(name)


def _declared(text):
    """Yield the names that a script declares at its top level."""
    for name, variables in DECLARED.findall(text):
        yield from [name] if name else []
        for variable, several in VARIABLE.findall(variables):
            yield from [variable] if variable else re.findall(r"\w+", several)

"""What of a source pickles, or could unpickle: read off its syntax tree, by whatever names it calls things."""

import ast
from collections.abc import Iterator

__all__ = ["pickling"]

MODULES = {
    "pickle",
    "_pickle",
    "cPickle",
    "pickle5",
    "dill",
    "cloudpickle",
    "joblib",
    "jsonpickle",
    "shelve",
    "marshal",
}
REFUSED = {  # called or only mentioned: a name that is handed on may be called anywhere
    "torch.save", "torch.serialization.save", "torch.package.PackageImporter", "torch.jit.load", "torch.hub.load",
    "torch.hub.load_state_dict_from_url", "pandas.read_pickle",
}  # fmt: skip
WEIGHTS_ONLY = {"torch.load", "torch.serialization.load"}
ALLOW_PICKLE = {  # where `allow_pickle` stands among the arguments
    "numpy.load": 2, "numpy.lib.npyio.load": 2, "numpy.save": 2, "numpy.lib.format.read_array": 1,
    "numpy.lib.format.write_array": 3,
}  # fmt: skip
METHODS = {"read_pickle", "to_pickle"}  # of pandas, whatever the object is called
IMPORTS = {"__import__", "builtins.__import__", "importlib.import_module"}


def pickling(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and reason of whatever imports a pickling module, or lets torch, NumPy or pandas pickle or unpickle.

    Names are followed through imports, `as`, assignments, `getattr` and `import_module` of a text. What a package makes
    of texts at run time, or runs with `exec`, is not seen.
    """
    names = _names(tree)
    sound: set[int] = set()  # names of calls that were looked at
    for node in ast.walk(tree):  # a call comes before the name that it calls
        if found := _imported(node, names) or _called(node, names, sound) or _mentioned(node, names, sound):
            yield getattr(node, "lineno", 0), found


def _names(tree: ast.Module) -> dict[str, str]:
    """Return what each name stands for, `t` for `torch`, as if the whole file were one scope."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {a.asname: a.name for a in node.names if a.asname}
        if isinstance(node, ast.ImportFrom) and not node.level:
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
            if any(a.name == "*" for a in node.names):
                known = (*REFUSED, *WEIGHTS_ONLY, *ALLOW_PICKLE)
                names |= {n.rpartition(".")[2]: n for n in known if n.rpartition(".")[0] == node.module}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            meant = _meaning(node.value, names)
            if meant.partition(".")[0] in ("torch", "numpy", "pandas", "importlib", "builtins"):
                names[node.targets[0].id] = meant
    return names


def _meaning(node: ast.AST, names: dict[str, str]) -> str:
    """Return the dotted name that an expression stands for; empty where it is none."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{_meaning(node.value, names)}.{node.attr}"
    if isinstance(node, ast.Call):
        texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        called = _meaning(node.func, names)
        if called in IMPORTS and texts:
            return texts[0]
        if called == "getattr" and texts:
            return f"{_meaning(node.args[0], names)}.{texts[0]}"
    return ""


def _imported(node: ast.AST, names: dict[str, str]) -> str:
    modules: list[str] = []
    if isinstance(node, ast.Import):
        modules = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and not node.level:
        modules = [node.module or ""]
    elif isinstance(node, ast.Call) and _meaning(node.func, names) in IMPORTS:
        modules = [_meaning(node, names)]
    return next((f"imports {name}" for name in modules if name.partition(".")[0] in MODULES), "")


def _called(node: ast.AST, names: dict[str, str], sound: set[int]) -> str:
    if not isinstance(node, ast.Call):
        return ""
    called, keywords = _meaning(node.func, names), {k.arg: ast.unparse(k.value) for k in node.keywords}
    if called in WEIGHTS_ONLY and keywords.get("weights_only") == "True":
        sound.add(id(node.func))
    allowed = [keywords.get("allow_pickle", "False")]
    if called in ALLOW_PICKLE:
        allowed += [ast.unparse(argument) for argument in node.args[ALLOW_PICKLE[called] :][:1]]
        if None in keywords or any(isinstance(argument, ast.Starred) for argument in node.args):
            allowed += ["?"]  # arguments that are not written here
    return f"calls {called or 'a function'} with allow_pickle" if set(allowed) != {"False"} else ""


def _mentioned(node: ast.AST, names: dict[str, str], sound: set[int]) -> str:
    if not isinstance(node, ast.Name | ast.Attribute | ast.Call) or id(node) in sound:
        return ""
    meant = _meaning(node, names)
    if meant in WEIGHTS_ONLY:
        return f"has {meant} without weights_only=True"
    if isinstance(node, ast.Attribute) and node.attr in METHODS:
        return f"has {node.attr}, which pickles or unpickles"
    return f"has {meant}, which pickles or unpickles" if meant in REFUSED else ""

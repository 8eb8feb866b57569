"""Configs that are Python files, as mmpose and mmdeploy write them, read without running them.

Understood are assignments of literals, dict(...), names assigned before, and their items; `_base_` names files beside
this one, of which the ones that are there come first. Everything else becomes Unread, so that only who needs it fails.
"""
from __future__ import annotations

import ast
import os
from typing import Any, Dict

from contract.errors import UserError
from contract.files import PathLike, read_text

BASE = "_base_"


class Unread:
    """The text of an expression that is not understood."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text


def read_python_config(path: PathLike) -> Dict[str, Any]:
    """Name -> value of a config's assignments. Raises UserError when the file is not there or not Python."""
    text = read_text(path, "config")
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected a config in Python, but {' '.join(str(error).split())}") from None
    own: Dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            own[node.targets[0].id] = _value(node.value, own)
    return _merge(_read_bases(path, own.pop(BASE, ())), own)


def _read_bases(path: PathLike, names: Any) -> Dict[str, Any]:
    merged: Dict[str, Any] = {}
    for name in [names] if isinstance(names, str) else names if isinstance(names, (list, tuple)) else []:
        base = os.path.normpath(os.path.join(os.path.dirname(os.fspath(path)), str(name)))
        if os.path.isfile(base) and base != os.path.normpath(os.fspath(path)):
            merged = _merge(merged, read_python_config(base))
    return merged


def _merge(base: Dict[str, Any], over: Dict[str, Any]) -> Dict[str, Any]:
    """As mmengine inherits: dicts item by item, everything else whole; `_delete_` starts anew."""
    if over.get("_delete_"):
        return {key: value for key, value in over.items() if key != "_delete_"}
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merge(base[key], value) if both else value
    return merged


def _value(node: ast.expr, known: Dict[str, Any]) -> Any:
    if isinstance(node, ast.Name) and node.id in known:
        return known[node.id]
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_hashable(_value(key, known)): _value(value, known)
                for key, value in zip(node.keys, node.values) if key}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args \
            and all(keyword.arg for keyword in node.keywords):
        return {str(keyword.arg): _value(keyword.value, known) for keyword in node.keywords}
    if isinstance(node, (ast.List, ast.Tuple)):
        values = [_value(item, known) for item in node.elts]
        return values if isinstance(node, ast.List) else tuple(values)
    if isinstance(node, ast.Subscript):
        try:
            return _value(node.value, known)[_value(node.slice, known)]
        except (KeyError, IndexError, TypeError):
            return Unread(ast.unparse(node))
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return Unread(ast.unparse(node))


def _hashable(key: Any) -> Any:
    return key if isinstance(key, (str, int, float, bool)) else repr(key)

"""Finds the object that a dotted path `package.module:Name` names, and builds objects from the parameters of a configuration.

YAML names rewards, backends and data sources by their place, so that there is no registry to extend. A module can be installed or
be in the working folder. A file elsewhere is named by its path, `folder/file.py:Name`.
"""

from __future__ import annotations

import collections.abc
import difflib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rlcap.config.section import Section
from rlcap.errors import ConfigError

_COLLECTIONS = (list, tuple, set, frozenset, collections.abc.Sequence)
"""Annotations that a list of YAML fits."""


_BARE = (object, typing.Protocol, typing.Generic)
"""Classes whose constructor takes nothing that anyone reads."""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Return the message `unknown reward 'x'; did you mean 'y'? known: …`."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" did you mean {near[0]!r}?" if near else ""
    return f"unknown {what} {name!r};{hint} known: {', '.join(known) or 'none'}"


def resolve(path: str, base: type | None = None) -> Any:
    """Return the object at `module:Name` or `file.py:Name`.

    An error inside the module, such as a missing dependency or a typo in the user's file, is raised unchanged, because another
    message would hide its cause.

    Args:
        path: The dotted path.
        base: The class of which the object must be a subclass; None for any object.

    Raises:
        ConfigError: There is no such object, or it is not a subclass of `base`. The message names the nearest module or class.
    """
    module_name, colon, name = path.rpartition(":")
    if not colon or not module_name or not name:
        raise ConfigError(f"{path!r} is no dotted path; write module:Name, e.g. rlcap.rewards.length:Length")
    module = _of_file(Path(module_name)) if module_name.endswith(".py") else _of_name(module_name)
    if not hasattr(module, name):
        known = [key for key, value in vars(module).items() if _offered(key, value, module.__name__, base)]
        raise ConfigError(unknown(f"name in {module_name}", name, known))
    found = getattr(module, name)
    if base is not None and not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigError(f"{path} is {found!r:.60}, not a subclass of {base.__name__}")
    return found


def build(
    factory: Any, params: Mapping[str, Any], context: Mapping[str, Any] | None = None, what: str | None = None
) -> Any:
    """Call a factory with parameters, and with the entries of `context` that its signature names and `params` leaves open.

    Args:
        factory: A class or function.
        params: Name → value.
        context: Values that the caller knows, such as the device.
        what: Name of the factory, for messages.

    Raises:
        ConfigError: As in `check_params`, or the factory raised a ValueError for a value.
    """
    what = what or str(getattr(factory, "__name__", repr(factory)))
    context = context or {}
    check_params(factory, params, context, what)
    accepted = _parameters(factory)
    try:
        return factory(**{key: value for key, value in context.items() if key in accepted} | dict(params))
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{what}: {error}") from error


def check_params(factory: Any, params: Mapping[str, Any], given: Iterable[str], what: str) -> None:
    """Check, without calling it, that a factory accepts the parameters.

    Args:
        factory: A class or function.
        params: Name → value.
        given: Names of the values that the caller will add.
        what: Name of the factory, for messages.

    Raises:
        ConfigError: A parameter is unknown or missing, or a plain value (number, text, choice, list, mapping) does not have the
            type of its annotation.
    """
    accepted = _parameters(factory)
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
    for key in params:
        if key not in accepted and not open_ended:
            raise ConfigError(unknown(f"parameter of {what}", key, accepted))
    hints = _hints(factory)
    for key, value in params.items():
        if key in hints and not _fits(value, hints[key]):
            number = (
                " (YAML reads 1e-3 as text: write 1.0e-3)" if isinstance(value, str) and _fits(0.5, hints[key]) else ""
            )
            listed = f"; write a list: [{value}]" if isinstance(value, str) and _fits([value], hints[key]) else ""
            raise ConfigError(f"parameter {key} of {what} must be {_wanted(hints[key])}, got {value!r}{number}{listed}")
        for section in _sections(hints.get(key)):
            section.of(value)
    filled = {key for key in given if key in accepted} | set(params)
    for key, parameter in accepted.items():
        variadic = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        nothing = key in params and params[key] is None and not _may_be_none(hints.get(key))
        if parameter.default is parameter.empty and not variadic and (key not in filled or nothing):
            raise ConfigError(
                f"{what} needs the parameter {key!r}; given: {', '.join(sorted(filled - {key})) or 'none'}"
            )


def _parameters(factory: Any) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a function or constructor. A class without a constructor of its own has none.

    Python itself shows `*args, **kwargs` for such a class where it derives from a Protocol.
    """
    if isinstance(factory, type):
        written = [kind for kind in factory.__mro__ if kind not in _BARE and not vars(kind).get("_is_protocol")]
        if not any(name in vars(kind) for kind in written for name in ("__init__", "__new__")):
            return {}
    return inspect.signature(factory).parameters


def _sections(hint: Any) -> list[Any]:
    """Return the configuration sections among the alternatives of an annotation: their values are checked here as well."""
    alternatives = typing.get_args(hint) or (hint,)
    return [
        kind for kind in alternatives if isinstance(kind, type) and issubclass(kind, Section) and hasattr(kind, "of")
    ]


def _of_name(name: str) -> types.ModuleType:
    if not exists(name):
        raise ConfigError(unknown("module", name, _siblings(name)))
    return importlib.import_module(name)


def _of_file(path: Path) -> types.ModuleType:
    """Return the module in a file. Each file is loaded once."""
    if not path.is_file():
        raise ConfigError(f"{path} does not exist: name a Python file, or a module by its dotted path")
    name = f"{path.stem} in {path.resolve().parent}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ConfigError(f"{path} is no Python file: its name must end in .py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _hints(factory: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(
            inspect.getattr_static(factory, "__init__") if isinstance(factory, type) else factory
        )
    except (
        NameError,
        TypeError,
    ):  # names known to type checkers alone, or no annotations: nothing to hold values against
        return {}


def _may_be_none(hint: Any) -> bool:
    """Return whether an annotation names None. `Any` does not name it."""
    return type(None) in typing.get_args(hint)


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value from YAML fits an annotation. The result is True for annotations that are not of plain values."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, choice) for choice in typing.get_args(hint))
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if hint is type(None):
        return value is None
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    if hint in (bool, str):
        return isinstance(value, hint)
    if (origin or hint) in (collections.abc.Collection, collections.abc.Iterable):
        return isinstance(value, collections.abc.Iterable) and not isinstance(value, str)
    if (origin or hint) in _COLLECTIONS:  # a text is a sequence of letters, which nobody means
        kinds = [kind for kind in typing.get_args(hint) if kind is not Ellipsis]
        if not isinstance(value, list | tuple | set | frozenset):
            return False
        if origin is tuple and len(kinds) > 1:
            return len(value) == len(kinds) and all(map(_fits, value, kinds))
        return not kinds or all(_fits(item, kinds[0]) for item in value)
    if origin is collections.abc.Mapping:
        return isinstance(value, Mapping)
    return True


def _wanted(hint: Any) -> str:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(map(_wanted, typing.get_args(hint)))
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(map(str, typing.get_args(hint)))
    if hint is type(None):
        return "null"
    return hint.__name__ if isinstance(hint, type) else str(hint).rpartition("abc.")[2]


def exists(module: str) -> bool:
    """Return whether a module exists. The working folder is searched after the installed packages."""
    if not _found(module) and (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # behind everything: a file of the working folder hides no installed module
        importlib.invalidate_caches()
    return _found(module)


def _found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False


def _siblings(module: str) -> list[str]:
    """Return the modules of the same package, or those of `rlcap.rewards` if the package does not exist."""
    package = module.rpartition(".")[0]
    package = package if package and exists(package) else "rlcap.rewards"
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return []
    return [f"{package}.{info.name}" for info in pkgutil.iter_modules(spec.submodule_search_locations)]


def _offered(key: str, value: Any, module: str, base: type | None) -> bool:
    if base is not None:
        return isinstance(value, type) and issubclass(value, base) and value is not base
    return not key.startswith("_") and getattr(value, "__module__", None) == module

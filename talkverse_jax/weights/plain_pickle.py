"""Pickles without Python's machine for them: texts, numbers, containers, and what the caller knows by name.

A pickle is a program. Python's own reader calls whatever it names, takes memory for whatever index it writes to, and
hashes whatever a table has for a name, be it tuples within tuples without end; this one knows the few operations of
which a list of tensors is made.
"""

import pickletools
from collections.abc import Callable
from typing import Any

_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,  # nothing here needs a set's ways
}
_VALUES = {
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "STRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


class PickleError(ValueError):
    """What is wrong with a pickle."""


def load(data: bytes, find: Callable[[str, str], Callable], stored: Callable[[Any], Any]) -> Any:
    """What a pickle holds.

    Args:
      find: called with a module and a name of it that the pickle would call; what it returns is called instead. Its
        exceptions are the caller's.
      stored: called with the identity of what is kept outside the pickle.

    Raises:
      PickleError: it is damaged, or needs what is not known here.
    """
    machine = _Machine(find, stored)
    try:
        for operation, argument, _ in pickletools.genops(data):
            machine.step(operation.name, argument)
        return machine.pop()
    except PickleError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise PickleError(str(error)[:100]) from None


class _Machine:
    def __init__(self, find: Callable[[str, str], Callable], stored: Callable[[Any], Any]):
        self._find, self._stored = find, stored
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise PickleError("a mark where a value should be")
        return value

    def step(self, name: str, argument: Any) -> None:
        """Do one operation."""
        stack = self._stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _TUPLES:
            stack.append(tuple([self.pop() for _ in range(_TUPLES[name])][::-1]))
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE", "PUT"):
            self._memo[len(self._memo) if argument is None else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self._memo[argument])
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "TUPLE":
            stack.append(tuple(self._since_mark()))
        elif name in ("SETITEM", "SETITEMS"):
            items = self._since_mark() if name == "SETITEMS" else [self.pop(), self.pop()][::-1]
            self._set(items)
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            items = [self.pop()] if name == "APPEND" else self._since_mark()
            self._top(list).extend(items)
        elif name == "BINPERSID":
            stack.append(self._stored(self.pop()))
        elif name in ("GLOBAL", "INST"):
            stack.append(self._find(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = self.pop(), self.pop()
            if not isinstance(module, str) or not isinstance(attribute, str):
                raise PickleError("a call of what has no name")
            stack.append(self._find(module, attribute))
        elif name == "REDUCE":
            arguments, function = self.pop(), self.pop()
            if not isinstance(arguments, tuple) or not callable(function):
                raise PickleError("a call of what cannot be called")
            stack.append(function(*arguments))
        elif name == "BUILD":  # attributes of a container, such as versions of PyTorch's modules
            self.pop()
        elif name == "POP":
            stack.pop()
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise PickleError(f"{name}, which no list of tensors needs")

    def _since_mark(self) -> list[Any]:
        stack = self._stack
        place = next((place for place in range(len(stack) - 1, -1, -1) if stack[place] is _MARK), None)
        if place is None:
            raise PickleError("no mark")
        values = stack[place + 1 :]
        del stack[place:]
        return values

    def _set(self, items: list[Any]) -> None:
        table = self._top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, (str, int)):
                raise PickleError(f"a table with a {type(key).__name__} for a name")
            table[key] = value

    def _top(self, kind: type) -> Any:
        if not isinstance(self._stack[-1], kind):
            raise PickleError(f"no {kind.__name__} where one should be")
        return self._stack[-1]

"""Values that an object works out once, when they are first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from functools import cached_property as once
else:
    from collections.abc import Callable

    class once:
        """`functools.cached_property` without the lock that, in Python 3.11, all instances share:
        under it one thread would run at a time."""

        def __init__(self, function: Callable[[Any], Any]) -> None:
            self.function, self.__doc__ = function, function.__doc__

        def __get__(self, instance: Any, owner: type) -> Any:
            if instance is None:
                return self
            return vars(instance).setdefault(self.function.__name__, self.function(instance))

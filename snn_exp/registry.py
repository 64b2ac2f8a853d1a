"""One registry per kind of part: name -> class, with everything a config must know read off the class.

A constructor's signature is the only place where a parameter, its type, its range and its default
are written. Behind the `*` stand the arguments that a person chooses, each with a default; before
them what the framework supplies at build time (a feature shape, a surrogate, the number of steps):

    @NEURONS.register("lif")
    class LIF(Neuron):
        '''Leaky integrate-and-fire ...'''
        def __init__(self, *supplied: Any, tau: TimeConstant = 2.0): ...

From that one line come the Hydra schema, the range check (here and in the config, in the same
words), `snn-exp options`, and the contract tests. This file needs no torch.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, Generic, TypeVar, Union

import docstring_parser
from annotated_types import Ge, Gt, Interval, Le, Lt, Unit

from snn_exp.errors import UserError, unknown
from snn_exp.plugins import load_plugins

Scalar = bool | int | float | str | None


@dataclasses.dataclass(frozen=True)
class Limit:
    """The largest value that makes sense, as a mark in a parameter's annotation.

    Args:
        most: the value.
        because: the consequence of a larger one, after "or ".
    """

    most: int
    because: str


@dataclasses.dataclass(frozen=True)
class Below:
    """A constraint between parameters of one part: left < right.

    A part lists its constraints in the class attribute `constraints`; its constructor and the config hold them alike.

    Args:
        left: a sum of terms, each a number, a parameter, or both, such as "2 amplitude" or "a + b".
        right: likewise.
        otherwise: the sentence where it does not hold; {a} stands for "neuron.a=1.0".
        when: a switch of the part; where it is off, anything goes.

    Example:
        >>> Below("a + 2 b", "1", "{a} and {b} are too much").refusal({"a": 0.5, "b": 0.25}, "toy.")
        'toy.a=0.5 and toy.b=0.25 are too much'
        >>> Below("a + 2 b", "1", "{a} and {b} are too much").refusal({"a": 0.5, "b": 0.125}, "toy.") is None
        True
    """

    left: str
    right: str
    otherwise: str
    when: str = ""

    def refusal(self, values: Mapping[str, Any], where: str) -> str | None:
        """Return the error sentence, or None where the constraint holds."""
        if (self.when and not values[self.when]) or _sum(self.left, values) < _sum(self.right, values):
            return None
        return self.otherwise.format(**{name: f"{where}{name}={value}" for name, value in values.items()})


def _sum(side: str, values: Mapping[str, Any]) -> float:
    return sum(
        math.prod(float(values[word] if word.isidentifier() else word) for word in term.split())
        for term in side.split("+")
    )


PartConfig = Mapping[str, Scalar]  # {"name": "lif", "tau": 2.0, ...}: one group of a resolved config

Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Interval(ge=0, le=1)]
OpenFraction = Annotated[float, Interval(gt=0, lt=1)]
TimeConstant = Annotated[float, Gt(1), Unit("steps")]
Count = Annotated[int, Ge(1)]
MAX_SEED = Limit(2**32 - 1, "numpy and scikit-learn refuse it")
Seed = Annotated[int, Ge(0), MAX_SEED]

FLOAT32 = (1e-15, 1e15)  # sizes whose squares float32 still holds

_AUTO = typing.Literal["auto"]
_SCALARS = {bool: "bool", int: "int", float: "float", str: "str"}


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One thing a person can choose about a part."""

    name: str
    type: str  # bool, int, float, str, or choice
    default: Scalar
    optional: bool = False
    choices: tuple[str, ...] = ()
    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None
    unit: str = ""
    doc: str = ""
    limit: int | None = None  # the largest value that makes sense
    because: str = ""
    auto: bool = False  # the word auto is allowed besides, which a rule answers when a run starts

    @property
    def allowed(self) -> str:
        """Return the allowed values in words, such as 'a float > 1 [steps]'."""
        return self._in_words() if self.limit is None else dataclasses.replace(self, le=self.limit)._in_words()

    def _in_words(self) -> str:
        """Return the allowed values in words, without the limit."""
        if self.type == "choice":
            words = "one of " + ", ".join(self.choices)
        else:
            words = f"{'an' if self.type == 'int' else 'a'} {self.type}"
            signs = ((">", self.gt), (">=", self.ge), ("<", self.lt), ("<=", self.le))
            bounds = [f"{sign} {_number(bound)}" for sign, bound in signs if bound is not None]
            words += " " + " and ".join(bounds) if bounds else ""
        words += f" [{self.unit}]" if self.unit else ""
        return words + (" or auto" if self.auto else "") + (" or null" if self.optional else "")

    def checked(self, value: Any, where: str = "") -> Scalar:
        """Return the value in its declared type, or raise a UserError that names the parameter.

        Args:
            value: the given value.
            where: a prefix for the parameter's name in the message, such as "neuron.".
        """
        if value is None and self.optional:
            return None
        if value == "auto" and self.auto:
            return "auto"
        if self.type == "float" and isinstance(value, int) and not isinstance(value, bool):
            value = float(value) if abs(value) < 2**1023 else math.inf if value > 0 else -math.inf
        fits = {
            "bool": isinstance(value, bool),
            "int": isinstance(value, int) and not isinstance(value, bool),
            "float": isinstance(value, float) and math.isfinite(value),
            "str": isinstance(value, str),
            "choice": isinstance(value, str) and value in self.choices,
        }[self.type]
        if fits and self.type in ("int", "float"):
            fits = (
                (self.gt is None or value > self.gt)
                and (self.ge is None or value >= self.ge)
                and (self.lt is None or value < self.lt)
                and (self.le is None or value <= self.le)
            )
        beyond = self.limit is not None and isinstance(value, int | float) and value > self.limit
        if not fits and not beyond:
            words = self._in_words()
            if isinstance(value, float) and not math.isfinite(value):
                words = words.replace("a float", "a finite float")
            raise self._not_allowed(value, where, f"be {words}")
        if beyond:
            raise self._not_allowed(value, where, f"be at most {self.limit}, or {self.because}")
        return typing.cast(Scalar, value)

    def require_a_float32(self, value: Scalar, where: str) -> None:
        """Refuse a number that float32 cannot compute with.

        Raises:
            UserError: a number so large or so near 0 that float32 would make infinity or 0 of it or of its square.
        """
        if isinstance(value, float) and value and not FLOAT32[0] <= abs(value) <= FLOAT32[1]:
            sizes = " to ".join(f"{size:g}" for size in FLOAT32)
            raise self._not_allowed(value, where, f"be 0 or of a size that float32 computes with, {sizes}")

    def _not_allowed(self, value: Any, where: str, must: str) -> UserError:
        name = f"{where}{self.name}"
        default = "null" if self.default is None else self.default
        return UserError(f"{name}={shown(value)} is not allowed: {name} must {must}; the default is {name}={default}")


def shown(value: Any) -> str:
    """Return a value for a message, truncated where it is long.

    Example:
        >>> shown(None), shown(10**5000), shown("x" * 100)
        ('null', 'an int of 16610 bits', 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...')
    """
    if isinstance(value, int) and value.bit_length() > 200:
        return f"an int of {value.bit_length()} bits"
    text = "null" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _number(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


@dataclasses.dataclass(frozen=True)
class Option:
    """The facts on a registered class that configs, help texts and tests need, without the class."""

    kind: str
    name: str
    summary: str
    parameters: tuple[Parameter, ...]
    traits: Mapping[str, Any]
    version: int = 1
    constraints: tuple[Below, ...] = ()

    def parameter(self, name: str) -> Parameter | None:
        """Return the parameter of that name, or None."""
        return next((p for p in self.parameters if p.name == name), None)


def parameters_of(cls: type) -> tuple[Parameter, ...]:
    """Return the keyword-only constructor arguments of a class, with type, range, unit, default and text.

    A constructor that takes `**parent` passes it on to its parent's, whose parameters follow its own. A class
    that shares a constructor and deviates in a default says so in its attribute `defaults`.
    """
    docs: dict[str, str] = {}
    for ancestor in cls.__mro__:
        for text in _docstring(ancestor).params:
            docs.setdefault(text.arg_name, " ".join((text.description or "").split()))
    found: dict[str, Parameter] = {}
    for ancestor in cls.__mro__:
        if "__init__" not in vars(ancestor):
            continue
        init = inspect.unwrap(vars(ancestor)["__init__"])
        arguments = inspect.signature(init).parameters.values()
        chosen = [argument for argument in arguments if argument.kind is inspect.Parameter.KEYWORD_ONLY]
        hints = typing.get_type_hints(init, include_extras=True) if chosen else {}
        for argument in chosen:
            found.setdefault(argument.name, _parameter(ancestor, argument, hints[argument.name]))
        if all(argument.kind is not inspect.Parameter.VAR_KEYWORD for argument in arguments):
            break
    defaults: Mapping[str, Scalar] = getattr(cls, "defaults", {})
    for name in defaults:
        if name not in found:
            raise TypeError(f"{cls.__name__}: defaults has {name}, which is not a parameter")
    return tuple(
        dataclasses.replace(p, doc=docs.get(p.name, ""), default=defaults.get(p.name, p.default))
        for p in found.values()
    )


def _docstring(cls: type) -> docstring_parser.Docstring:
    return docstring_parser.parse(inspect.cleandoc(cls.__doc__ or ""), docstring_parser.DocstringStyle.GOOGLE)


def _parameter(cls: type, p: inspect.Parameter, hint: Any) -> Parameter:
    if p.default is inspect.Parameter.empty:
        raise TypeError(f"{cls.__name__}: keyword-only argument {p.name} needs a default")
    metadata: list[Any] = []
    if typing.get_origin(hint) is Annotated:
        hint, *metadata = typing.get_args(hint)
    optional = auto = False
    if typing.get_origin(hint) in (Union, types.UnionType):
        members = typing.get_args(hint)
        auto = _AUTO in members
        inner = [member for member in members if member is not type(None) and member != _AUTO]
        optional, hint = type(None) in members, inner[0]
        if typing.get_origin(hint) is Annotated:
            hint, *more = typing.get_args(hint)
            metadata += more
    if typing.get_origin(hint) is typing.Literal:
        kind, choices = "choice", typing.get_args(hint)
    elif hint in _SCALARS:
        kind, choices = _SCALARS[hint], ()
    else:
        raise TypeError(f"{cls.__name__}.{p.name}: a config cannot hold a {hint}")
    bounds: dict[str, Any] = {}
    for mark in metadata:
        for part in mark if isinstance(mark, Interval) else [mark]:
            if isinstance(part, (Gt, Ge, Lt, Le)):
                bounds[type(part).__name__.lower()] = getattr(part, type(part).__name__.lower())
            elif isinstance(part, Unit):
                bounds["unit"] = part.unit
            elif isinstance(part, Limit):
                bounds |= {"limit": part.most, "because": part.because}
    default = float(p.default) if kind == "float" and p.default is not None else p.default
    return Parameter(p.name, kind, default, optional, tuple(choices), auto=auto, **bounds)


P = TypeVar("P")


class Registry(Generic[P]):
    """Name -> class for one kind of part.

    Args:
        kind: the kind, which is also the name of the config group ("neuron").
        traits: class attributes that belong in the menu, so that configs can be checked without torch.

    Example:
        >>> COLOURS = Registry[object]("colour")
        >>> @COLOURS.register("red")
        ... class Red:
        ...     'A warm colour.'
        ...     def __init__(self, *, strength: Positive = 1.0): self.strength = strength
        >>> COLOURS.make({"name": "red", "strength": 2}).strength
        2.0
    """

    def __init__(self, kind: str, traits: tuple[str, ...] = ()) -> None:
        self.kind = kind
        self.traits = traits
        self._classes: dict[str, type[P]] = {}

    def register(self, name: str) -> Callable[[type[P]], type[P]]:
        """Return a class decorator that registers the class under a name and adds range checks to its constructor.

        Raises:
            ValueError: the name is taken.
        """

        def decorate(cls: type[P]) -> type[P]:
            if name in self._classes:
                raise ValueError(f"two classes want to be the {self.kind} {name!r}: {self._classes[name]}, {cls}")
            _check_in_constructor(cls, f"{self.kind}.")
            self._classes[name] = cls
            return cls

        return decorate

    def __getitem__(self, name: str) -> type[P]:
        if name not in self._classes:
            load_plugins()
        if name not in self._classes:
            raise unknown(self.kind, name, self._classes, f"{self.kind}={{}}")
        return self._classes[name]

    def name_of(self, cls: type) -> str:
        """Return the registered name of a class, or of its nearest registered parent."""
        names = {registered: name for name, registered in self._classes.items()}
        return next((names[ancestor] for ancestor in cls.__mro__ if ancestor in names), cls.__name__)

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def make(self, config: PartConfig, *supplied: Any) -> P:
        """Make a new part from its group of the config and the framework's arguments."""
        parameters = {key: value for key, value in config.items() if key != "name"}
        return self[str(config["name"])](*supplied, **parameters)

    def options(self) -> dict[str, Option]:
        """Return the menu entry of each class."""
        return {name: self._option(name, cls) for name, cls in self._classes.items()}

    def _option(self, name: str, cls: type[P]) -> Option:
        return Option(
            kind=self.kind,
            name=name,
            summary=(_docstring(cls).short_description or "").strip(),
            parameters=parameters_of(cls),
            traits={trait: getattr(cls, trait) for trait in self.traits},
            version=getattr(cls, "version", 1),
            constraints=constraints_of(cls),
        )


def constraints_of(cls: type) -> tuple[Below, ...]:
    """Return the constraints of a class and of its parents."""
    return tuple(c for ancestor in cls.__mro__ for c in vars(ancestor).get("constraints", ()))


def require_constraints(constraints: Iterable[Below], values: Mapping[str, Any], where: str) -> None:
    """Check constraints between parameters.

    Raises:
        UserError: one of them does not hold.
    """
    for constraint in constraints:
        if refusal := constraint.refusal(values, where):
            raise UserError(refusal)


def _check_in_constructor(cls: type, where: str) -> None:
    """Wrap __init__ so that the schema's defaults, ranges and constraints hold however the part is built."""
    parameters, constraints = parameters_of(cls), constraints_of(cls)
    init = cls.__init__  # type: ignore[misc]

    @functools.wraps(init)
    def checked_init(self: Any, *args: Any, **kwargs: Any) -> None:
        for p in parameters:
            kwargs[p.name] = p.checked(kwargs.get(p.name, p.default))
        require_constraints(constraints, kwargs, where)
        init(self, *args, **kwargs)

    cls.__init__ = checked_init  # type: ignore[misc]

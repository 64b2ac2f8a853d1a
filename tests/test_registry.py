"""The registry reads a part's parameters off its constructor and refuses what they do not allow."""

from __future__ import annotations

import math
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_exp.errors import UserError
from snn_exp.registry import Count, Fraction, Parameter, Positive, Registry, TimeConstant, parameters_of


class Parent:
    """A parent.

    Args:
        height: how high.
    """

    def __init__(self, *, height: Positive = 1.0, loud: bool = False) -> None:
        self.height, self.loud = height, loud


class Child(Parent):
    """A child.

    Args:
        tau: how slow.
    """

    def __init__(
        self,
        supplied: int = 0,
        *,
        tau: TimeConstant = 2.0,
        count: Count = 3,
        form: Literal["a", "b"] = "a",
        share: Fraction | None = None,
        **parent: Any,
    ) -> None:
        super().__init__(**parent)
        self.tau, self.count, self.form, self.share, self.supplied = tau, count, form, share, supplied


def registry() -> Registry[Any]:
    """A fresh registry with one class that inherits nothing from another test."""
    found: Registry[Any] = Registry("toy", traits=("colour",))

    @found.register("child")
    class Registered(Child):
        """A toy."""

        colour = "red"

    return found


def test_a_name_is_given_once() -> None:
    toys = registry()
    with pytest.raises(ValueError, match="'child'") as error:
        toys.register("child")(Parent)
    assert "Parent" in str(error.value) and list(toys) == ["child"]


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError) as error:
        registry()["chlid"]
    assert str(error.value) == "There is no toy 'chlid'; allowed: child; did you mean child? Type toy=child"


def test_a_keyword_without_a_default_is_a_type_error() -> None:
    class NoDefault:
        def __init__(self, *, tau: float) -> None: ...

    toys = registry()
    with pytest.raises(TypeError, match="tau needs a default"):
        toys.register("other")(NoDefault)
    assert list(toys) == ["child"]


def test_a_parameter_that_no_config_can_hold_is_a_type_error() -> None:
    class HoldsAList:
        def __init__(self, *, taus: list[float] = []) -> None: ...  # noqa: B006

    with pytest.raises(TypeError, match="taus") as error:
        parameters_of(HoldsAList)
    assert "list" in str(error.value)


def test_parent_parameters_are_followed() -> None:
    found = {p.name: p for p in registry().options()["child"].parameters}
    assert list(found) == ["tau", "count", "form", "share", "height", "loud"]
    assert found["tau"] == Parameter("tau", "float", 2.0, gt=1, unit="steps", doc="how slow.")
    assert found["count"].type == "int" and found["count"].ge == 1
    assert found["form"].choices == ("a", "b")
    assert found["share"].optional and (found["share"].ge, found["share"].le) == (0, 1)
    assert found["height"].gt == 0 and found["height"].doc == "how high."
    assert found["loud"].type == "bool"


def test_parameters_stop_at_a_constructor_that_passes_nothing_on() -> None:
    class Fixed(Parent):
        def __init__(self, *, width: Positive = 2.0) -> None:
            super().__init__(height=3.0)

    assert [p.name for p in parameters_of(Fixed)] == ["width"]


def test_an_option_says_what_the_class_is() -> None:
    option = registry().options()["child"]
    assert (option.kind, option.name, option.summary, option.version) == ("toy", "child", "A toy.", 1)
    assert option.traits == {"colour": "red"}
    assert option.parameter("tau") is option.parameters[0] and option.parameter("taus") is None


def test_make_passes_on_what_the_framework_supplies_and_what_the_config_says() -> None:
    toy = registry().make({"name": "child", "tau": 3, "height": 2}, 7)
    assert (toy.supplied, toy.tau, toy.height, toy.count, toy.share) == (7, 3.0, 2.0, 3, None)


def test_an_int_is_a_float() -> None:
    toy = registry().make({"name": "child", "tau": 3})
    assert isinstance(toy.tau, float) and toy.tau == 3


def test_null_is_taken_only_where_it_is_declared() -> None:
    assert registry().make({"name": "child", "share": None}).share is None
    with pytest.raises(UserError, match="tau=null is not allowed"):
        registry().make({"name": "child", "tau": None})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", True),
        ("count", 2.0),
        ("count", 0),
        ("tau", True),
        ("tau", 1),
        ("tau", "2"),
        ("tau", math.nan),
        ("share", 1.5),
        ("form", "c"),
        ("loud", 1),
        ("height", 0.0),
    ],
)
def test_a_wrong_value_is_refused_in_the_constructor(name: str, value: float | str | None) -> None:
    with pytest.raises(UserError, match=f"^{name}=") as error:
        registry().make({"name": "child", name: value})
    assert f"{name} must be " in str(error.value) and "the default is" in str(error.value)


def test_the_message_says_what_is_allowed_and_where() -> None:
    tau = parameters_of(Child)[0]
    with pytest.raises(UserError) as error:
        tau.checked(0.5, where="neuron.")
    assert str(error.value) == (
        "neuron.tau=0.5 is not allowed: neuron.tau must be a float > 1 [steps]; the default is neuron.tau=2.0"
    )


@settings(max_examples=60, deadline=None)
@given(st.floats() | st.integers(-3, 3))
def test_a_value_is_taken_exactly_when_it_lies_in_its_range(value: float | str | None) -> None:
    fraction = Parameter("f", "float", 0.5, ge=0, le=1)
    try:
        taken = fraction.checked(value)
    except UserError:
        taken = None
    assert taken == (float(value) if 0 <= value <= 1 else None)


def test_a_class_that_shares_a_constructor_may_deviate_in_a_default() -> None:
    toys: Registry[Any] = Registry("toy")

    @toys.register("tall")
    class Tall(Parent):
        defaults = {"height": 3.0}

    @toys.register("taller")
    class Taller(Tall):
        defaults = {"height": 4.0}

    assert [p.default for p in parameters_of(Tall)] == [3.0, False]
    assert (Tall().height, Taller().height, Taller(height=5.0).height) == (3.0, 4.0, 5.0)


def test_a_default_of_no_parameter_is_a_type_error() -> None:
    class Mistyped(Parent):
        defaults = {"weight": 3.0}

    with pytest.raises(TypeError, match="defaults has weight, which is not a parameter"):
        parameters_of(Mistyped)

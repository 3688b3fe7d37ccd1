"""Requests as the account asks for them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

from retraining.account_rules import AccountRules
from retraining.plan import Plan

Request = dict[str, Any]
Given = ParamSpec("Given")
Build = Callable[Concatenate[Plan, Given], Request]


def as_account_asks(rules: Callable[[AccountRules, Request], Request]) -> Callable[[Build[Given]], Build[Given]]:
    """Decorates what builds a request of a plan; `rules` is a method of AccountRules."""

    def decorate(build: Build[Given]) -> Build[Given]:
        @functools.wraps(build)
        def built(plan: Plan, /, *args: Given.args, **kwargs: Given.kwargs) -> Request:
            return rules(plan.environment.account_rules, build(plan, *args, **kwargs))

        return built

    return decorate

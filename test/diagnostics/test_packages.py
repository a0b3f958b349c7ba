"""Core packages that are missing or broken, and extras that are not complete."""

from __future__ import annotations

import pytest

from mmduet.diagnostics.packages import CORE_PACKAGES, Extra, core_packages, extras

REQUIREMENTS = [
    "torch<2.14,>=2.8",
    'websockets<18,>=17; extra == "client"',
    'mmduet[client]; extra == "server"',
    'fastapi<0.200,>=0.165; extra == "server"',
    'uvloop<0.30,>=0.23; sys_platform != "win32" and extra == "server"',
    'mmduet[server]; extra == "demo"',
    'gradio<7; extra == "demo"',
    'ray[serve]>=2.60; extra == "cluster"',
    'pytest; extra == "dev"',
]


def test_core_packages_have_versions_and_no_problem_here() -> None:
    found = core_packages(load=lambda module: None)
    assert [each.name for each in found] == list(CORE_PACKAGES)
    assert all(each.version and each.problem is None for each in found)


def test_a_package_that_cannot_be_imported_is_a_problem_of_its_own() -> None:
    def load(module: str) -> None:
        if module == "av":
            raise OSError("libavcodec.so.62: cannot open shared object file")

    problems = {each.name: each.problem for each in core_packages(load)}
    assert problems.pop("av") == "cannot be imported: OSError: libavcodec.so.62: cannot open shared object file"
    assert set(problems.values()) == {None}


def test_a_missing_package_is_reported_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CORE_PACKAGES, "no-such-distribution", "no_such_module")
    assert core_packages(lambda module: None)[-1].problem == "not installed; run: pip install no-such-distribution"


def test_extras_include_those_that_they_contain() -> None:
    installed = {"websockets": "17", "fastapi": "0.165"}
    found = {each.name: each.missing for each in extras(REQUIREMENTS, installed.get)}
    assert found == {"client": (), "server": (), "demo": ("gradio",), "cluster": ("ray",)}
    found = {each.name: each.missing for each in extras(REQUIREMENTS, {}.get)}
    assert found["demo"] == ("websockets", "fastapi", "gradio")


def test_the_extras_of_this_installation_are_listed() -> None:
    assert {each.name for each in extras()} >= {"server", "demo", "quant", "eval"}


def test_the_command_installs_the_extra() -> None:
    assert Extra("demo", ("gradio",)).install_command == "pip install 'mmduet[demo]'"

"""``pip install .``: the package with its type definitions and unit templates; setup.cfg has the rest."""

from __future__ import annotations

from setuptools import setup
from setuptools.command.build_py import build_py

setup()

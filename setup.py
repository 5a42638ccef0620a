"""``pip install .``; setup.cfg has what is usual, here is what is not.

Type definitions and unit templates lie beside the package in a checkout, and inside
it in a wheel: site-packages is no place for a directory ``nstypes``.
"""

from __future__ import annotations

from pathlib import Path
from shutil import copytree

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithData(build_py):
    """Copies the data into the built package."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for directory in ("nstypes", "unit-templates"):
                copytree(directory, Path(self.build_lib, "netns_tools", directory), dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithData})

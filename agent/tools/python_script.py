"""Runs the code of a `run_python` call: `python -c SCRIPT CODE FOLDER`, inside the sandbox.

A script of the standard library alone, because the gateway's own packages are not visible there. Figures of matplotlib
and pictures of PIL are saved in FOLDER, numbered in the order in which they were made.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import linecache
import os
import sys
import traceback
import types
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

NAME = "<code>"
BACKEND = "workspace_figures"
MAX_PICTURES = 10


class Pictures:
    """Saves pictures in a folder, a limited number."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.count = 0

    def save(self, write: Callable[[str], Any]) -> None:
        """`write` gets the path of a PNG file."""
        self.count += 1
        if self.count > MAX_PICTURES:
            if self.count == MAX_PICTURES + 1:
                sys.stderr.write(f"[Only the first {MAX_PICTURES} pictures are kept.]\n")
            return
        os.makedirs(self.folder, exist_ok=True)
        write(os.path.join(self.folder, f"{self.count:02}.png"))

    def save_figures(self, *_: object, **__: object) -> None:
        """Saves the open figures of matplotlib, if it was used, and closes them."""
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is None:
            return
        for number in pyplot.get_fignums():
            figure = pyplot.figure(number)
            self.save(partial(figure.savefig, bbox_inches="tight", dpi=120))
        pyplot.close("all")


class Backend(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """A backend of matplotlib, made when it is asked for: `plt.show()` saves the figures."""

    def __init__(self, pictures: Pictures) -> None:
        self.pictures = pictures

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self) if name == BACKEND else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: Any) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        module.FigureCanvas = FigureCanvasAgg
        module.show = self.pictures.save_figures


def run(code: str, pictures: Pictures) -> int:
    """Runs the code as a module, and shows the value of its last line if that is an expression. The exit code."""
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    linecache.cache[NAME] = (len(code), None, code.splitlines(keepends=True), NAME)
    try:
        tree = ast.parse(code, NAME)
        *_, last = (None, *tree.body)
        if isinstance(last, ast.Expr):
            tree.body.pop()
        exec(compile(tree, NAME, "exec"), main.__dict__)
        if isinstance(last, ast.Expr):
            show(eval(compile(ast.Expression(last.value), NAME, "eval"), main.__dict__), pictures)
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:  # noqa: BLE001 - whatever the code raises is its result
        show_error(error)
        return 1
    return 0


def show(value: Any, pictures: Pictures) -> None:
    image = sys.modules.get("PIL.Image")
    if image is not None and isinstance(value, image.Image):
        pictures.save(value.save)
    elif value is not None and not is_drawing(value):
        sys.stdout.write(f"{value!r}\n")


def is_drawing(value: object) -> bool:
    """Whether it is what a call of pyplot returns, such as the lines of a plot: the figure shows it."""
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    return bool(items) and all(type(item).__module__.startswith("matplotlib.") for item in items)


def show_error(error: BaseException) -> None:
    """The traceback, from the first line of the code on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != NAME:
        trace = trace.tb_next
    sys.stdout.flush()
    traceback.print_exception(type(error), error.with_traceback(trace), trace)


def main(code: str, folder: str) -> int:
    pictures = Pictures(folder)
    sys.argv = [NAME]
    sys.path.insert(0, os.getcwd())
    sys.meta_path.append(Backend(pictures))
    os.environ.setdefault("MPLBACKEND", f"module://{BACKEND}")
    result = run(code, pictures)
    try:
        pictures.save_figures()
    except Exception as error:  # noqa: BLE001 - a figure that cannot be drawn
        show_error(error)
        result = result or 1
    sys.stdout.flush()
    return result


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))

"""The file that a new Python is given to run a program of dagnb: see interpreter.program, which writes its arguments.

Beside it lie modules whose names are those of Python's own, so its folder is no place to import from. The folders in
which dagnb and its packages lie come behind the standard library, of which nothing that lies there may hide anything,
and before the installed packages, which may be other versions.
"""

import site
import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]
    n_folders = int(sys.argv[1])
    folders, (module, *arguments) = sys.argv[2 : 2 + n_folders], sys.argv[2 + n_folders :]
    installed = [*site.getsitepackages(), site.getusersitepackages()]
    at = next((at for at, entry in enumerate(sys.path) if entry in installed), len(sys.path))
    sys.path[at:at] = folders

    from importlib import import_module

    sys.exit(import_module(module).main(arguments))

"""The file that a new Python is given to run a program of dagnb: see interpreter.program, which writes its arguments.

Beside it lie modules whose names are those of Python's own, so its folder is no place to import from. The folders in
which dagnb lies come last: what else lies there must hide nothing.
"""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]
    n_folders = int(sys.argv[1])
    folders, (module, *arguments) = sys.argv[2 : 2 + n_folders], sys.argv[2 + n_folders :]
    sys.path += [folder for folder in folders if folder not in sys.path]

    from importlib import import_module

    sys.exit(import_module(module).main(arguments))

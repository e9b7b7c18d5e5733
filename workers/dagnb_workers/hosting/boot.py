"""The file with which a new Python is started to run a program of dagnb.

usage: boot.py N FOLDER*N MODULE ARGUMENT..., as `interpreter.program` writes it.

The folders are those from which dagnb was imported in the process that starts this one. On sys.path
they come after the standard library, so that they hide none of its modules, and before the
installed packages, which may be other versions.
"""

import site
import sys

if __name__ == "__main__":
    # Python puts the folder of this file first on sys.path. There a module beside this file would
    # hide any other module of the same name.
    if not sys.flags.safe_path:
        del sys.path[0]

    n_folders = int(sys.argv[1])
    folders, rest = sys.argv[2 : 2 + n_folders], sys.argv[2 + n_folders :]
    module, *arguments = rest

    installed = [*site.getsitepackages(), site.getusersitepackages()]
    positions = [n for n, entry in enumerate(sys.path) if entry in installed]
    n_standard = positions[0] if positions else len(sys.path)
    sys.path[n_standard:n_standard] = folders

    # Not imported at the top, where it would be searched for in this file's folder first.
    from importlib import import_module

    sys.exit(import_module(module).main(arguments))

"""The file that a new Python is started with to run a program of dagnb.

usage: boot.py N FOLDER*N MODULE ARGUMENT..., as `interpreter.program` writes it.

The folders are those from which dagnb was imported in the process that starts this one. They come
behind the standard library, so that nothing in them hides a module of it, and before the installed
packages, which may be other versions.
"""

import site
import sys

if __name__ == "__main__":
    # Python put the folder of this file first. A module beside it, imported by its bare name,
    # could hide one of that name elsewhere.
    if not sys.flags.safe_path:
        del sys.path[0]

    n_folders = int(sys.argv[1])
    folders, rest = sys.argv[2 : 2 + n_folders], sys.argv[2 + n_folders :]
    module, *arguments = rest

    installed = [*site.getsitepackages(), site.getusersitepackages()]
    positions = [n for n, entry in enumerate(sys.path) if entry in installed]
    n_standard = positions[0] if positions else len(sys.path)
    sys.path[n_standard:n_standard] = folders

    # Not at the top: it must not be looked for in this file's folder either.
    from importlib import import_module

    sys.exit(import_module(module).main(arguments))

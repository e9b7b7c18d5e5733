"""A typed hook for the client, and the mixins by which things show themselves in a notebook.

`node.run()`, the picture of a DAG and the makespan in the text of a plan need rooms far above this
one: settings, stores, drawings. Rooms import downwards only, and a worker in a container lacks the
packages of the client. So `dagnb.client` fills this hook when it is imported, and `client()`
imports it by name when a method of a node needs it first.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dagnb.errors import ConfigError
from dagnb.graph.brief import brief

if TYPE_CHECKING:
    from dagnb.handle import Run
    from dagnb.planning.plan import Plan
    from dagnb.trace.trace import Trace

_CLIENT = "dagnb.client"

_PICTURES = frozenset({"text/html", "image/svg+xml"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Functions of the client that lower rooms call; see dagnb.run, dagnb.plan, dagnb.simulate.

    show: returns MIME type -> content for an object, as IPython's display takes it. predicted_s:
    median makespan of a plan, seconds; None where it is unknown, or would take long to simulate.
    """

    run: Callable[..., Run[Any]]
    plan: Callable[..., Plan]
    simulate: Callable[..., Trace]
    show: Callable[[object], dict[str, str]]
    predicted_s: Callable[[Plan], float | None]

    __repr__ = brief


_client: Client | None = None


def set_client(client: Client | None) -> None:
    """Fill the hook; None empties it."""
    global _client  # noqa: PLW0603  # one client a process, as there is one module dagnb.client
    _client = client


def loaded_client() -> Client | None:
    """Returns the client if this process has imported it. Workers have not, and have no need to."""
    return _client


def client() -> Client:
    """Returns the client, importing it if needed; ImportError where its packages are missing."""
    if _client is None:
        importlib.import_module(_CLIENT)  # fills the hook
    assert _client is not None
    return _client


class Shown:
    """Mixin: shows itself in a notebook as its picture. Showing runs nothing."""

    __slots__ = ()  # else the classes with slots that use it would get a dictionary again

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Returns MIME type -> content, for IPython.

        Without Graphviz it is a text, which says how to get the picture.
        """
        return client().show(self)


def picture_of(shown: Shown) -> str:
    """Returns the picture of a thing as SVG, to be kept in a file.

    Raises ConfigError, with the cure, where nothing can draw.
    """
    content = client().show(shown)
    if "image/svg+xml" not in content:
        # The last paragraph of the text says why there is no picture, with the cure.
        raise ConfigError(content["text/plain"].rpartition("\n\n")[2])
    return content["image/svg+xml"]


class ShownOrText(Shown):
    """Mixin for things whose `str` is a complete table: it is shown where there is no picture.

    The client is not imported for the picture.
    """

    __slots__ = ()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Returns MIME type -> content: the picture, or the table alone."""
        loaded = loaded_client()
        shown = loaded.show(self) if loaded is not None else {}
        return shown if _PICTURES & shown.keys() else {"text/plain": str(self)}

"""All conversations with real client software, by name: samples are made of them and tests hold them again.

::

    with running(conversation.flavour) as server:
        prepare(server)
        CONVERSATIONS["psql_simple"].talk(Place(server, server.port))
"""

from samples import jdbc, libpq_programs, psycopg_driver, python_drivers
from samples.place import CONVERSATIONS, Conversation, Place, prepare

__all__ = [
    "CONVERSATIONS",
    "Conversation",
    "Place",
    "jdbc",
    "libpq_programs",
    "prepare",
    "psycopg_driver",
    "python_drivers",
]

"""One process of the pool: takes states, answers with ratings, ends with its parent.

Started as ``python -m services.worker.masks.hog.process FD``, where FD is its end of a socket.
"""

import pickle
import signal
import sys
from multiprocessing.connection import Connection


def main() -> None:
    """Serve until the other end closes, be it that the parent was killed."""
    # A Ctrl-C reaches the whole group; the parent decides what becomes of the work.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Connection(int(sys.argv[1])) as connection:
        try:
            _serve(connection)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


def _serve(connection: Connection) -> None:
    try:
        problem = pickle.loads(connection.recv_bytes())  # noqa: S301 - sent by our own parent
    except EOFError:
        raise
    except Exception as error:
        connection.send(ValueError(f"a process cannot read the problem: {error}"))
        return
    connection.send(None)
    while True:
        number, state = connection.recv()
        try:
            answer: object = problem.rate(state)
        except Exception as error:
            answer = error
        connection.send((number, answer))


if __name__ == "__main__":
    main()

"""The repository: every query of the project, in groups by who asks."""

from sqlalchemy import Engine, text

from shared.db.activity import ActivityQueries
from shared.db.claims import ClaimQueries
from shared.db.datasets import DatasetQueries
from shared.db.engine import reading
from shared.db.images import ImageQueries
from shared.db.jobs import JobQueries
from shared.db.keeping import KeeperQueries
from shared.db.keys import KeyQueries
from shared.db.models import ModelQueries


class Repository:
    """All queries, on one engine. Each call is one transaction; objects returned are detached."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.activity = ActivityQueries(engine)
        self.jobs = JobQueries(engine)
        self.claims = ClaimQueries(engine)
        self.keeping = KeeperQueries(engine)
        self.images = ImageQueries(engine)
        self.keys = KeyQueries(engine)
        self.models = ModelQueries(engine)
        self.datasets = DatasetQueries(engine)

    def check(self) -> None:
        """Raise when the database does not answer."""
        with reading(self.engine).connect() as connection:
            connection.execute(text("SELECT 1"))

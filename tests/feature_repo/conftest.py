import pyarrow as pa
import pytest

from tests.feature_repo.small_history import make_interactions


@pytest.fixture(scope="session")
def interactions() -> pa.Table:
    return make_interactions(users=120, events=3000, seed=0)

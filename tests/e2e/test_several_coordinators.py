"""Two coordinators as processes on one PostgreSQL database, behind one address: the one at whose provider a training is
computed is killed in the middle, and Redis with it; the result is that of one machine.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from databases import postgresql_server, schema
from processes import Lab
from redis_server import redis_server
from relay import relaying
from workloads import STEPS, assert_equals_local, busy_provider, training, wait_until_step

import ravop as R

pytestmark = pytest.mark.alone


@pytest.fixture
def database(lab: Lab) -> Iterator[None]:
    with postgresql_server() as server, schema(server) as lab.database:
        yield
        R.disconnect()
        lab.close()


@pytest.mark.usefixtures("database")
def test_one_of_two_is_killed_and_redis_with_it(lab: Lab) -> None:
    with redis_server(lab.folder) as (redis_url, redis):
        first, second = both = [lab.another("--redis-url", redis_url, wait=False) for _ in range(2)]
        with relaying(*(process.wait_for(r"^http://\S+$")[0] for process in both)) as balancer:
            lab.url = balancer.url
            lab.providers(2)
            R.initialize(lab.token("requester", "anna"), url=lab.url)
            graph = training()
            R.activate()
            R.execute()
            wait_until_step(graph, STEPS // 5)
            killed = first if f"({busy_provider()}) registered" in first.output else second
            redis.kill()
            killed.kill()
            R.track_progress()
            assert_equals_local("losses", "first", "second", "third")
        (left,) = {first, second} - {killed}
        for name in ("p1", "p2"):
            assert f"({name}) registered" in left.output

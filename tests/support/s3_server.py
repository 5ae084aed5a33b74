"""An S3 store as a program: OpenStack Swift with its S3 API, in one process. Prints its URL when it answers, and ends with
its standard input. `buckets` starts it.

It is none of ours, and checks signatures, expiry and checksums as AWS does.
"""

from __future__ import annotations

import sys
from pathlib import Path

import eventlet
import eventlet.wsgi

CONFIG = """
[DEFAULT]
swift_dir = {folder}
devices = {folder}
mount_check = false
fallocate_reserve = 0
disable_fallocate = true
log_level = ERROR
bind_port = {port}

[pipeline:main]
pipeline = {pipeline}

[app:account]
use = egg:swift#account
[app:container]
use = egg:swift#container
[app:object]
use = egg:swift#object
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true

[filter:s3api]
use = egg:swift#s3api
min_segment_size = 1
[filter:tempauth]
use = egg:swift#tempauth
user_test_key = secret .admin
user_test_guest = guest
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:catch_errors]
use = egg:swift#catch_errors
"""
PIPELINES = {
    "account": "account",
    "container": "container",
    "object": "object",
    "proxy": "catch_errors s3api tempauth copy slo proxy-server",
}


def main(folder: Path) -> None:
    """`folder`: where it keeps what it is given."""
    eventlet.monkey_patch()  # before Swift is imported
    from swift.common import utils
    from swift.common.ring import RingBuilder
    from swift.common.wsgi import loadapp

    utils.HASH_PATH_SUFFIX = b"tests"
    (folder / "disk").mkdir(parents=True, exist_ok=True)
    listening = {name: eventlet.listen(("127.0.0.1", 0)) for name in PIPELINES}
    for name in ("account", "container", "object"):
        ring = RingBuilder(part_power=1, replicas=1, min_part_hours=0)
        ring.add_dev(
            {"id": 0, "region": 1, "zone": 1, "ip": "127.0.0.1", "port": listening[name].getsockname()[1],
             "device": "disk", "weight": 1}
        )  # fmt: skip
        ring.rebalance()
        ring.get_ring().save(str(folder / f"{name}.ring.gz"))
    for name, pipeline in PIPELINES.items():
        config = folder / f"{name}.conf"
        port = listening[name].getsockname()[1]
        config.write_text(CONFIG.format(folder=folder, port=port, pipeline=pipeline))
        app = loadapp(str(config))
        eventlet.spawn(eventlet.wsgi.server, listening[name], app, log_output=False)
    print(f"http://127.0.0.1:{listening['proxy'].getsockname()[1]}", flush=True)
    eventlet.hubs.trampoline(sys.stdin.fileno(), read=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

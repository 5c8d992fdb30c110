"""Tasks through Ray on this machine: one JSON document for each concurrency. Called by crates/herd/benches/tasks.rs."""
import json, os, sys, time
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import ray

count = int(sys.argv[1])
ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False, object_store_memory=200 * 1024 * 1024)


@ray.remote(num_cpus=1)
def echo(x):
    return x


def measure(width, total):
    waiting, latencies, begun, sent = {}, [], time.perf_counter(), 0
    while sent < total or waiting:
        while sent < total and len(waiting) < width:
            waiting[echo.remote(sent)] = time.perf_counter()
            sent += 1
        done, _ = ray.wait(list(waiting), num_returns=1)
        for ref in done:
            ray.get(ref)
            latencies.append((time.perf_counter() - waiting.pop(ref)) * 1e3)
    took = time.perf_counter() - begun
    latencies.sort()
    print(json.dumps({"concurrency": width, "p50_ms": latencies[len(latencies) // 2], "p99_ms": latencies[int(len(latencies) * 0.99)],
                      "per_second": total / took}), flush=True)


ray.get([echo.remote(n) for n in range(200)])
for width in (1, 10, 100):
    measure(width, count if width > 1 else max(count // 4, 50))
begun = time.perf_counter()
ray.get([echo.remote(n) for n in range(count)])
print(json.dumps({"concurrency": 0, "per_second": count / (time.perf_counter() - begun)}), flush=True)
ray.shutdown()

"""Tasks through Dask on this machine: one JSON document for each concurrency. Called by crates/herd/benches/tasks.rs."""
import json, sys, time
from distributed import Client, LocalCluster, as_completed


def echo(x):
    return x


def measure(client, width, total):
    latencies, begun, sent, started = [], time.perf_counter(), 0, {}

    def submit():
        nonlocal sent
        now = time.perf_counter()
        future = client.submit(echo, sent, pure=False)
        started[future.key] = now
        sent += 1
        return future

    done = as_completed([submit() for _ in range(min(width, total))], with_results=True)
    for future, _ in done:
        latencies.append((time.perf_counter() - started.pop(future.key)) * 1e3)
        if sent < total:
            done.add(submit())
    took = time.perf_counter() - begun
    latencies.sort()
    print(json.dumps({"concurrency": width, "p50_ms": latencies[len(latencies) // 2], "p99_ms": latencies[int(len(latencies) * 0.99)],
                      "per_second": total / took}), flush=True)


if __name__ == "__main__":
    count = int(sys.argv[1])
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, processes=True)
    client = Client(cluster)
    client.gather(client.map(echo, range(200), pure=False))
    for width in (1, 10, 100):
        measure(client, width, count if width > 1 else max(count // 4, 50))
    begun = time.perf_counter()
    client.gather(client.map(echo, range(count), pure=False))
    print(json.dumps({"concurrency": 0, "per_second": count / (time.perf_counter() - begun)}), flush=True)
    client.close()
    cluster.close()

"""A worker of a herd: reads a task a line, answers a line. Runs inside the job's container."""
import json
import sys

for line in sys.stdin:
    task = json.loads(line)
    try:
        answer = {"id": task["id"], "ok": sum(int(n) for n in task["payload"].split())}
    except ValueError as error:
        answer = {"id": task["id"], "error": str(error), "retry": False}
    print(json.dumps(answer), flush=True)

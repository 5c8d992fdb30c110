"""A shepherd: submits tasks and reads results as they come, over the socket of `farm herd door JOB --socket FILE`."""
import json
import socket
import sys

door = socket.socket(socket.AF_UNIX)
door.connect(sys.argv[1])
words = door.makefile("rw")


def say(word):
    words.write(json.dumps(word) + "\n")
    words.flush()


say({"do": "results", "after": 0})
say({"do": "submit", "tasks": [{"payload": f"task {n}", "key": f"example-{n}"} for n in range(100)]})
for line in words:
    told = json.loads(line)
    if told["is"] == "results":
        for result in told["results"]:
            print(result["key"], result["outcome"], result["result"])
        say({"do": "acknowledge", "upto": told["results"][-1]["seq"]})
        if told["results"][-1]["seq"] >= 100:
            break

"""A client of an older protocol (6), with the PyPI package pysher: the same commands as in session.js, and the same lines.

In: {"number": 1, "do": "connect", "key": ..., "host": ..., "port": ..., "as": {"secret": ..., "user": ..., "info": ...}};
then "subscribe", "unsubscribe", "trigger", "disconnect". The library signs with the app's secret by itself.
"""

import json
import sys
import threading

import pysher

client = None
speaking = threading.Lock()


def say(line: dict) -> None:
    # The library has a thread of its own, and lines must not run into each other.
    with speaking:
        print(json.dumps(line), flush=True)


def tell(client, event, data, channel):
    try:
        data = json.loads(data)
    except (TypeError, ValueError):
        pass
    say({"on": "event", "channel": channel, "event": event, "data": data, "user_id": None})


# Whatever comes on a channel, and not only what somebody has bound.
pysher.Pusher._connection_handler = tell


def connect(command):
    global client
    who = command["as"]
    client = pysher.Pusher(
        command["key"],
        secure=command["tls"],
        secret=who["secret"],
        user_data={"user_id": who["user"], "user_info": who["info"]},
        custom_host=command["host"],
        port=command["port"],
    )
    connected = lambda data: say({"on": "state", "state": "connected", "socket_id": json.loads(data)["socket_id"]})
    client.connection.bind("pusher:connection_established", connected)
    client.connection.bind("pusher:error", lambda data: say({"on": "error", "error": data}))
    client.connect()


def carry_out(command):
    match command["do"]:
        case "connect":
            connect(command)
        case "subscribe":
            client.subscribe(command["channel"])
        case "unsubscribe":
            client.unsubscribe(command["channel"])
        case "trigger":
            client.channel(command["channel"]).trigger(command["event"], command["data"])
            return {"sent": True}
        case "disconnect":
            client.disconnect()
        case unknown:
            raise ValueError(f"no such command: {unknown}")
    return {}


say({"on": "ready"})
for line in sys.stdin:
    if line.strip():
        command = json.loads(line)
        try:
            say({"answer": command["number"], **carry_out(command)})
        except Exception as error:  # whatever it is, the test wants to know
            say({"answer": command["number"], "error": str(error)})

"""An app's own server with Pusher's official library for Python, driven by a test: one JSON line in, one out.

In: {"number": 1, "do": "trigger", "with": {...}}; "do" is a method of pusher.Pusher, or "connect" with the arguments of its
constructor. Out: {"answer": 1, "said": ...} or {"answer": 1, "error": "...", "kind": "PusherForbidden"}. PYTHONPATH names the
library, CA_FILE the certificate to trust.
"""

import json
import os
import sys

import pusher
import pusher.requests

if os.environ.get("CA_FILE"):
    # The library trusts its own bundle only, and has no setting for it.
    pusher.requests.CERT_PATH = os.environ["CA_FILE"]

METHODS = {
    "trigger",
    "trigger_batch",
    "channels_info",
    "channel_info",
    "users_info",
    "authenticate",
    "authenticate_user",
    "send_to_user",
    "terminate_user_connections",
    "validate_webhook",
}


def say(line: dict) -> None:
    print(json.dumps(line), flush=True)


def main() -> None:
    client = None
    say({"on": "ready"})
    for line in sys.stdin:
        if not line.strip():
            continue
        command = json.loads(line)
        number, what, arguments = command["number"], command["do"], command.get("with", {})
        try:
            if what == "connect":
                client, said = pusher.Pusher(**arguments), None
            elif what in METHODS:
                said = getattr(client, what)(**arguments)
            else:
                raise ValueError(f"no such command: {what}")
            say({"answer": number, "said": said})
        except Exception as error:  # whatever it is, the test wants to know
            say({"answer": number, "error": str(error), "kind": type(error).__name__})


main()

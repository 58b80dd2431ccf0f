"""Verifies an app's webhooks with Pusher's library for Python: one JSON object a line in, "ok" or "error: why" a line out.

In: {"key": ..., "secret": ..., "headers": {"x-pusher-key": ..., ...}, "body_base64": ...}. PYTHONPATH names the library.
"""

import base64
import json
import sys

import pusher


def judge(line: str) -> str:
    request = json.loads(line)
    app = pusher.Pusher(app_id="1", key=request["key"], secret=request["secret"], host="127.0.0.1", ssl=False)
    headers, body = request["headers"], base64.b64decode(request["body_base64"]).decode()
    webhook = app.validate_webhook(headers["x-pusher-key"], headers["x-pusher-signature"], body)
    return "ok" if webhook is not None else "error: not valid"


for line in sys.stdin:
    if line.strip():
        print(judge(line), flush=True)

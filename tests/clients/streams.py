"""Readers of event streams from PyPI: sseclient-py, requests-sse, httpx-sse, aiohttp-sse-client, and requests by itself.

In: {"number": 1, "do": "stream", "library": ..., "name": ..., "url": ...}; what a library tells its program becomes lines.
Each reads in a thread of its own, which ends with the script.
"""

import asyncio
import json
import sys
import threading

import httpx
import httpx_sse
import requests
import requests_sse
import sseclient
from aiohttp_sse_client import client as aiohttp_sse

speaking = threading.Lock()


def say(line: dict) -> None:
    with speaking:
        print(json.dumps(line), flush=True)


def tell(name, type, data, id):
    say({"on": "stream", "name": name, "type": type or "message", "data": data, "id": id or ""})


def with_sseclient(name, url):
    response = requests.get(url, stream=True, headers={"accept": "text/event-stream"})
    response.raise_for_status()
    say({"on": "stream_open", "name": name})
    for event in sseclient.SSEClient(response).events():
        tell(name, event.event, event.data, event.id)


def with_requests(name, url):
    """As people do without a library: each line that is data."""
    response = requests.get(url, stream=True)
    response.raise_for_status()
    say({"on": "stream_open", "name": name})
    type = "message"
    for line in response.iter_lines():
        if line.startswith(b"event: "):
            type = line.removeprefix(b"event: ").decode()
        elif line.startswith(b"data: "):
            tell(name, type, line.removeprefix(b"data: ").decode(), "")
            type = "message"


def with_requests_sse(name, url):
    with requests_sse.EventSource(url, timeout=600) as source:
        say({"on": "stream_open", "name": name})
        for event in source:
            tell(name, event.type, event.data, event.last_event_id)


def with_httpx_sse(name, url):
    with httpx.Client(timeout=600) as client, httpx_sse.connect_sse(client, "GET", url) as source:
        source.response.raise_for_status()
        say({"on": "stream_open", "name": name})
        for event in source.iter_sse():
            tell(name, event.event, event.data, event.id)


def with_aiohttp(name, url):
    async def read():
        async with aiohttp_sse.EventSource(url) as source:
            say({"on": "stream_open", "name": name})
            async for event in source:
                tell(name, event.type, event.data, event.last_event_id)

    asyncio.run(read())


readers = {
    "sseclient-py": with_sseclient,
    "requests": with_requests,
    "requests-sse": with_requests_sse,
    "httpx-sse": with_httpx_sse,
    "aiohttp-sse-client": with_aiohttp,
}


def read(reader, name, url):
    try:
        reader(name, url)
        say({"on": "stream_end", "name": name})
    except Exception as error:  # whatever it is, the test wants to know
        say({"on": "stream_error", "name": name, "error": repr(error)})


say({"on": "ready"})
for line in sys.stdin:
    if line.strip():
        command = json.loads(line)
        arguments = (readers[command["library"]], command["name"], command["url"])
        threading.Thread(target=read, args=arguments, daemon=True).start()
        say({"answer": command["number"]})

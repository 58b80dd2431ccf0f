// Readers of event streams in Node: npm's eventsource in the versions that people have, what opens it anew where it gives up,
// and @microsoft/fetch-event-source.
// {"do": "stream", "library": …, "name": …, "url": …, "types": […]} begins one; what it tells its program becomes lines.
const { say, serve } = require("./lines.js");

// That one is made for pages.
globalThis.window = globalThis;
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
const { fetchEventSource } = require("@microsoft/fetch-event-source");

const constructors = {
  "eventsource 2": require("eventsource-2"),
  "eventsource 3": require("eventsource").EventSource,
  "eventsource 4": require("eventsource-4").EventSource,
};
const { default: Reconnecting } = require("reconnecting-eventsource");
constructors["reconnecting-eventsource"] = function (url) {
  return new Reconnecting(url, { eventSourceClass: constructors["eventsource 4"], max_retry_time: 200 });
};
const open = new Map();
const tell = (name) => (event) =>
  say({ on: "stream", name, type: event.event ?? event.type, data: event.data, id: event.id ?? event.lastEventId });

const commands = {
  stream({ library, name, url, types }) {
    if (library === "fetch-event-source") {
      const stop = new AbortController();
      open.set(name, () => stop.abort());
      fetchEventSource(url, {
        signal: stop.signal,
        openWhenHidden: true,
        onopen: async (response) => {
          if (!response.ok) throw new Error(`status ${response.status}`);
          say({ on: "stream_open", name });
        },
        onmessage: (message) => tell(name)({ ...message, event: message.event || "message" }),
        onerror: (error) => say({ on: "stream_error", name, state: null, error: String(error) }),
      }).catch((error) => say({ on: "stream_error", name, state: 2, error: String(error) }));
      return;
    }
    const source = new constructors[library](url);
    open.set(name, () => source.close());
    source.onopen = () => say({ on: "stream_open", name });
    source.onerror = (event) => say({ on: "stream_error", name, state: source.readyState, code: event.code ?? event.status ?? null });
    for (const type of ["message", ...types]) source.addEventListener(type, tell(name));
  },
  close_stream({ name }) {
    open.get(name)();
    open.delete(name);
  },
};

serve(
  async (command) => commands[command.do](command) ?? {},
  async () => open.forEach((close) => close()),
);

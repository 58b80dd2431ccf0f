// A client in Node with Laravel Echo over pusher-js: the same commands as in session.js, and the same lines for the test.
// The broadcaster is `pusher` or `reverb`; proofs come from the server's own /pusher/auth, for a token.
const path = require("node:path");
const { pathToFileURL } = require("node:url");
const Pusher = require("pusher-js");
const { say, serve } = require("./lines.js");

let echo;
const kinds = {
  "private-": (name) => echo.private(name),
  "presence-": (name) => echo.join(name),
  "": (name) => echo.channel(name),
};
const channelOf = (name) => {
  const prefix = Object.keys(kinds).find((prefix) => name.startsWith(prefix));
  return kinds[prefix](name.slice(prefix.length));
};

const commands = {
  async connect({ key, host, port, tls, options }) {
    // The package calls itself a module, and what it offers to require() is none.
    const file = path.join(path.dirname(require.resolve("laravel-echo")), "echo.js");
    const { default: Echo } = await import(pathToFileURL(file));
    echo = new Echo({
      key,
      Pusher,
      cluster: "",
      wsHost: host,
      wsPort: port,
      wssPort: port,
      forceTLS: tls,
      enabledTransports: ["ws", "wss"],
      ...options,
    });
    echo.connector.pusher.connection.bind("state_change", ({ current, previous }) => {
      say({ on: "state", state: current, before: previous, socket_id: echo.socketId() ?? null });
    });
  },
  disconnect() {
    echo.disconnect();
  },
  subscribe({ channel }) {
    const tell = (event) => (data) => say({ on: "event", channel, event, data: data ?? null, user_id: null });
    const joined = channelOf(channel)
      // Echo writes a dot before names outside of its namespace.
      .listenToAll((event, data) => tell(event.replace(/^\./, ""))(data))
      .subscribed(tell("pusher:subscription_succeeded"))
      .error(tell("pusher:subscription_error"));
    if (channel.startsWith("presence-")) {
      joined.here(tell("here")).joining(tell("joining")).leaving(tell("leaving"));
    }
  },
  unsubscribe({ channel }) {
    echo.leaveChannel(channel);
  },
  trigger({ channel, event, data }) {
    channelOf(channel).whisper(event.replace(/^client-/, ""), data);
    return { sent: true };
  },
};

serve(
  async (command) => (await commands[command.do](command)) ?? {},
  async () => echo?.disconnect(),
);

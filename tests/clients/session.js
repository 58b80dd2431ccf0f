// What a test wants of a client becomes calls of pusher-js and EventSource, and what these tell becomes lines for the test.
// The same in Node and in a page: `makeSession(libraries, say, authorize)` gives a function that carries out one command.
(function (root) {
  root.makeSession = ({ Pusher, BatchAuthorizer, EventSource }, say, authorize) => {
    let pusher;
    const streams = new Map();

    // pusher-js wants a callback, the authorizer of the test is a promise.
    const asked = (ask) => (params, callback) =>
      ask(params).then((answer) => callback(null, answer), (error) => callback(new Error(String(error.message ?? error)), null));

    const listen = (channel) => {
      // What pusher-js tells those who listen on the channel; a global handler would not be told who said it.
      const emit = Object.getPrototypeOf(channel).emit;
      channel.emit = (event, data, metadata) => {
        say({ on: "event", channel: channel.name, event, data: plain(data), user_id: metadata?.user_id ?? null });
        return emit.call(channel, event, data, metadata);
      };
    };

    // Members of a presence channel are an object with methods; an error is not JSON.
    const plain = (data) => {
      if (data instanceof Error) return { error: data.message };
      if (data && data.members && "myID" in data) {
        return { members: data.members, count: data.count, my_id: data.myID, me: data.me };
      }
      try {
        JSON.stringify(data);
      } catch {
        // What a socket says of its own breaking is a ring of objects.
        return { error: String(data.type ?? data) };
      }
      return data ?? null;
    };

    const commands = {
      connect({ key, host, port, tls, options, recipe }) {
        if (pusher) pusher.disconnect();
        const { batch, ...more } = options;
        // The plugin that asks for many channels with one call takes the place of everything else.
        const channelAuthorization = {
          customHandler: asked(({ socketId, channelName }) => authorize({ socket_id: socketId, channel: channelName })),
        };
        pusher = new Pusher(key, {
          cluster: "",
          wsHost: host,
          wsPort: port,
          wssPort: port,
          forceTLS: tls,
          // Otherwise a connection that fails is tried again at Pusher's own hosts.
          enabledTransports: ["ws", "wss"],
          ...(batch ? { authorizer: BatchAuthorizer } : { channelAuthorization }),
          userAuthentication: { customHandler: asked(({ socketId }) => authorize({ socket_id: socketId })) },
          ...more,
        });
        // Code of our documentation, which a test takes from there.
        if (recipe) new Function("pusher", recipe)(pusher);
        pusher.connection.bind("state_change", ({ current, previous }) => {
          say({ on: "state", state: current, before: previous, socket_id: pusher.connection.socket_id ?? null });
        });
        pusher.connection.bind("error", (error) => say({ on: "error", error: plain(error) }));
        pusher.user.bind_global((event, data) => say({ on: "user", event, data: plain(data) }));
        pusher.user.watchlist.bind_global((name, { user_ids }) => say({ on: "watch", name, user_ids }));
        return { state: pusher.connection.state };
      },
      disconnect() {
        pusher.disconnect();
      },
      subscribe({ channel }) {
        // Bound before the answer can come.
        const subscribed = pusher.subscribe(channel);
        listen(subscribed);
      },
      unsubscribe({ channel }) {
        pusher.unsubscribe(channel);
      },
      trigger({ channel, event, data }) {
        return { sent: pusher.channel(channel).trigger(event, data) };
      },
      async signin() {
        pusher.signin();
        await pusher.user.signinDonePromise;
        return { user_data: pusher.user.user_data };
      },
      members({ channel }) {
        return plain(pusher.channel(channel).members);
      },
      stream({ name, url, types }) {
        const source = new EventSource(url);
        streams.set(name, source);
        const tell = (event) => say({ on: "stream", name, type: event.type, data: event.data, id: event.lastEventId });
        source.onopen = () => say({ on: "stream_open", name });
        source.onerror = (event) => {
          say({ on: "stream_error", name, state: source.readyState, code: event.code ?? null });
        };
        for (const type of ["message", ...types]) source.addEventListener(type, tell);
      },
      close_stream({ name }) {
        streams.get(name).close();
        streams.delete(name);
      },
    };

    return async (command) => {
      const carryOut = commands[command.do];
      if (!carryOut) throw new Error(`no such command: ${command.do}`);
      return (await carryOut(command)) ?? {};
    };
  };
})(typeof module === "object" ? module.exports : window);

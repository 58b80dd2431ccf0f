// Proofs as an app's own server gives them, made by Pusher's official library for Node.
const Pusher = require("pusher");

// The function that `connect`'s `as` describes: {app_id, key, secret, user, info, watchlist, master_key}.
exports.authority = (as) => {
  const library = new Pusher({ appId: as.app_id, key: as.key, secret: as.secret, host: "127.0.0.1", encryptionMasterKeyBase64: as.master_key ?? undefined });
  return async ({ socket_id, channel }) => {
    if (as.refuse) throw new Error("the app's server refuses");
    if (channel === undefined) return library.authenticateUser(socket_id, { id: as.user, user_info: as.info ?? {}, watchlist: as.watchlist ?? undefined });
    if (channel.startsWith("presence-")) {
      return library.authorizeChannel(socket_id, channel, { user_id: as.user, user_info: as.info ?? {} });
    }
    return library.authorizeChannel(socket_id, channel);
  };
};

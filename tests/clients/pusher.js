// A client in Node: pusher-js and the npm package eventsource, driven by a test. NODE_PATH names the libraries.
const Pusher = require("pusher-js");
const BatchAuthorizer = require("pusher-js-auth");
const { EventSource } = require("eventsource");
const { authority } = require("./authority.js");
const { say, serve } = require("./lines.js");
const { makeSession } = require("./session.js");

let authorize = async () => {
  throw new Error("not connected as anybody");
};
const run = makeSession({ Pusher, BatchAuthorizer, EventSource }, say, (wish) => authorize(wish));

serve(
  async ({ as, ...command }) => {
    if (as) authorize = authority(as);
    return run(command);
  },
  async () => {},
);

// Verifies an app's webhooks with Pusher's library for Node: one JSON object a line in, "ok" and the events, or "error: why" a
// line out.
//
// In: {"key": ..., "secret": ..., "headers": {"x-pusher-key": ..., ...}, "body_base64": ...}. NODE_PATH names the library.
const readline = require("node:readline");
const Pusher = require("pusher");

const judge = (line) => {
  const { key, secret, headers, body_base64 } = JSON.parse(line);
  const pusher = new Pusher({ appId: "1", key, secret, host: "127.0.0.1" });
  const webhook = pusher.webhook({ headers, rawBody: Buffer.from(body_base64, "base64").toString() });
  if (!webhook.isValid()) return "error: not valid";
  const age = Date.now() - webhook.getTime().getTime();
  if (!(Math.abs(age) < 300_000)) return `error: ${age} ms old`;
  return `ok${JSON.stringify(webhook.getEvents())}`;
};

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  if (line.trim() !== "") console.log(judge(line));
});

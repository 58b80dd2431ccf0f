// Verifies webhooks with the official JavaScript library: one JSON object a line in, "ok" or "error: why" a line out.
//
// In: {"secret": "whsec_...", "headers": {"webhook-id": ..., ...}, "body_base64": ...}. NODE_PATH names the libraries.
const readline = require("node:readline");
const { Webhook } = require("standardwebhooks");

const judge = (line) => {
  const { secret, headers, body_base64 } = JSON.parse(line);
  try {
    new Webhook(secret).verify(Buffer.from(body_base64, "base64"), headers);
    return "ok";
  } catch (error) {
    return `error: ${String(error.message).replaceAll("\n", " ")}`;
  }
};

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  if (line.trim() !== "") console.log(judge(line));
});

// An app's own server with Pusher's official library for Node, driven by a test: `do` is a method of the library, `with` its
// arguments in a list. What a method answers over HTTP comes back as {status, body}.
const Pusher = require("pusher");
const { say, serve } = require("./lines.js");

let library;

serve(
  async ({ do: method, with: args }) => {
    if (method === "connect") {
      library = new Pusher(...args);
      return { said: null };
    }
    try {
      const said = await library[method](...args);
      const over_http = typeof said?.text === "function";
      return { said: over_http ? { status: said.status, body: await said.text() } : said };
    } catch (error) {
      throw Object.assign(error, { stack: JSON.stringify({ status: error.status ?? null, body: error.body ?? error.message }) });
    }
  },
  async () => {},
);

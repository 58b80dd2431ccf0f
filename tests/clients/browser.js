// A client in a page of Chromium: pusher-js and the browser's own EventSource, driven by a test. NODE_PATH names the
// libraries, CHROMIUM the browser.
const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");
const { chromium } = require("playwright-core");
const { authority } = require("./authority.js");
const { say, serve } = require("./lines.js");

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-dev-shm-usage",
];
const FILES = {
  "/pusher.js": path.join(path.dirname(require.resolve("pusher-js/package.json")), "dist/web/pusher-with-encryption.js"),
  "/session.js": path.join(__dirname, "session.js"),
};
const PAGE = `<!doctype html><title>client</title><link rel="icon" href="data:,"><script src="/pusher.js"></script><script src="/session.js"></script>`;

const servePage = () =>
  new Promise((resolve) => {
    const server = http.createServer((request, response) => {
      if (request.url === "/") return response.writeHead(200, { "content-type": "text/html" }).end(PAGE);
      const file = FILES[request.url];
      if (!file) return response.writeHead(404).end();
      response.writeHead(200, { "content-type": "text/javascript; charset=utf-8" }).end(fs.readFileSync(file));
    });
    server.listen(0, "127.0.0.1", () => resolve(`http://127.0.0.1:${server.address().port}/`));
  });

(async () => {
  const address = await servePage();
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: FLAGS,
  });
  // The server's certificate is the test's own.
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  const page = await context.newPage();
  page.on("pageerror", (error) => say({ on: "page_error", error: String(error) }));

  let authorize = async () => {
    throw new Error("not connected as anybody");
  };
  await page.exposeFunction("say", say);
  await page.exposeFunction("authorize", (wish) => authorize(wish));
  await page.goto(address);
  await page.evaluate(() => {
    window.run = window.makeSession({ Pusher: window.Pusher, EventSource: window.EventSource }, window.say, window.authorize);
  });

  serve(
    async ({ as, ...command }) => {
      if (as) authorize = authority(as);
      return page.evaluate((command) => window.run(command), command);
    },
    () => browser.close(),
  );
})().catch((error) => {
  console.error(error);
  process.exit(1);
});

// How a test talks to a script: a JSON line `{"number": 1, "do": …}` in, `{"answer": 1, …}` out; between them, lines that
// begin with `{"on": …` tell what happened. The script ends when its input does.
const readline = require("node:readline");

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

exports.say = say;
exports.serve = (carryOut, end) => {
  const input = readline.createInterface({ input: process.stdin });
  input.on("line", async (line) => {
    if (line.trim() === "") return;
    const { number, ...command } = JSON.parse(line);
    try {
      say({ answer: number, ...(await carryOut(command)) });
    } catch (error) {
      say({ answer: number, error: String(error.stack ?? error) });
    }
  });
  input.on("close", async () => {
    await end();
    process.exit(0);
  });
  say({ on: "ready" });
};

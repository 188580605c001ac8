// Takes graphile-worker's schema one migration further by its own library, and then uses it: step.js FOLDER STEP
//
// FOLDER holds node_modules; the server is named by libpq's variables. After the last step jobs are run too.
const path = require("node:path");

const [folder, step] = [process.argv[2], Number(process.argv[3])];
const modules = path.join(folder, "node_modules");
const load = (name) => require(path.join(modules, name));
const { migrations } = load("graphile-worker/dist/generated/sql.js");
const names = Object.keys(migrations).sort();
for (const name of names.slice(step)) delete migrations[name];
const { runMigrations, runOnce, quickAddJob } = load("graphile-worker");
const { Pool } = load("pg");

const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const { Logger } = load("graphile-worker");
const logger = new Logger(() => (level, message) => quiet[level]?.(message));

async function main() {
    const pgPool = new Pool({ max: 3 });
    pgPool.on("error", () => {});
    await runMigrations({ pgPool, logger });
    for (const number of [1, 2, 3]) {
        const payload = JSON.stringify({ step, number, text: "é 🐘 \"quoted\"" });
        const task = number == 3 ? "fails" : "works";
        // In the first steps a queue's name has to be given.
        const queue = step < 4 ? ", queue_name := 'a queue'" : "";
        await pgPool.query(`SELECT graphile_worker.add_job($1, payload := $2::json${queue})`, [task, payload]);
    }
    if (step >= names.length) {
        await quickAddJob({ pgPool, logger }, "works", { again: true }, { jobKey: "one", queueName: "a queue", priority: 3 });
        await quickAddJob({ pgPool, logger }, "works", { again: 2 }, { jobKey: "one", runAt: new Date(), flags: ["red"] });
        const fails = async () => {
            throw new Error("as it should");
        };
        const works = async (payload, helpers) => {
            if (payload.again) await helpers.addJob("later", { of: payload }, { runAt: new Date(Date.now() + 1e7) });
        };
        await runOnce({ pgPool, logger, noHandleSignals: true, taskList: { works, fails } });
    }
    await pgPool.end();
}

main().catch((error) => {
    console.error(error);
    process.exit(1);
});

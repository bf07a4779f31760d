/** A real server in a process of its own, with a port and a database that stay the same over restarts. */
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { connect, createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const AGENTS = fileURLToPath(new URL("agents.py", import.meta.url));
const START_MS = 90_000;

/** What the agent of `agents.py` wrote when an answer was over. */
export interface Ended {
  prompt: string;
  how: "done" | "cancelled" | "failed";
  length: number;
  sha256: string;
}

export class ServerProcess {
  readonly directory = mkdtempSync(join(tmpdir(), "runcast-browser-"));
  #port = 0;
  #process: ChildProcess | null = null;
  readonly #command: (port: number) => string[];

  readonly #settings: Readonly<Record<string, string>>;

  private constructor(command: (port: number) => string[], settings: Readonly<Record<string, string>> = {}) {
    this.#command = command;
    this.#settings = settings;
  }

  /** The explorer, as `runcast demo` plays it. */
  static explorer = (): ServerProcess =>
    new ServerProcess((port) => ["demo", "explorer", "--port", `${port}`, "--store", "log.db"]);

  /** The agent of `agents.py`, with these settings (`RUNCAST_…`). */
  static ofAgent = (settings: Readonly<Record<string, string>> = {}): ServerProcess =>
    ServerProcess.of(`${AGENTS}:agent`, settings);

  /** An agent, as `runcast serve` finds it. */
  static of = (agent: string, settings: Readonly<Record<string, string>> = {}): ServerProcess =>
    new ServerProcess((port) => ["serve", agent, "--port", `${port}`, "--database", "log.db"], settings);

  get origin(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  async start(): Promise<void> {
    if (this.#port === 0) this.#port = await freePort();
    const own = join(ROOT, ".venv/bin/python");
    const python = process.env["RUNCAST_PYTHON"] ?? (existsSync(own) ? own : "python3");
    const log = openSync(join(this.directory, "server.log"), "a");
    const child = spawn(python, ["-m", "runcast.cli", ...this.#command(this.#port)], {
      cwd: this.directory,
      env: { ...process.env, ...this.#settings, PYTHONPATH: join(ROOT, "src") },
      stdio: ["ignore", log, log],
    });
    this.#process = child;
    const end = Date.now() + START_MS;
    while (!(await answers(this.#port))) {
      if (child.exitCode !== null) throw new Error(`The server ended with ${child.exitCode}:\n${this.log()}`);
      if (Date.now() > end) throw new Error(`The server did not answer in ${START_MS} ms:\n${this.log()}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** SIGKILL: nothing in the process gets to run any more. */
  async kill(): Promise<void> {
    const child = this.#process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await gone;
  }

  /** Ends the server and forgets what it kept. */
  async end(): Promise<void> {
    await this.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }

  log = (): string => readFileSync(join(this.directory, "server.log"), "utf8");

  /** The answers that are over, in the order in which they ended. */
  ended(): Ended[] {
    const path = join(this.directory, "ended.log");
    if (!existsSync(path)) return [];
    const lines = readFileSync(path, "utf8").split("\n").slice(0, -1);
    return lines.map((line) => JSON.parse(line) as Ended);
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const { port } = probe.address() as AddressInfo;
      probe.close(() => resolve(port));
    });
  });
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => (socket.destroy(), resolve(true)));
    socket.once("error", () => resolve(false));
  });
}

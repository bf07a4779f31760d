/**
 * A real server with `agent.py` in a process of its own, for one test file: port, database and `gate` stay the same over
 * restarts. `const server = await serve()` in `beforeAll`, `server.end()` in `afterAll`.
 */
import { writeFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ServerProcess } from "../e2e/server.ts";

const AGENT = fileURLToPath(new URL("agent.py", import.meta.url));

export class Served {
  readonly #process: ServerProcess;

  constructor(process: ServerProcess) {
    this.#process = process;
  }

  /** `http://127.0.0.1:<port>`, without a slash at the end. */
  get url(): string {
    return this.#process.origin;
  }

  log = (): string => this.#process.log();

  /** Lets every `hold` go on, now and later. */
  open = (): void => writeFileSync(join(this.#process.directory, "gate"), "");

  /** `hold` waits again. */
  shut = (): void => rmSync(join(this.#process.directory, "gate"), { force: true });

  /** SIGKILL, and the same server again: same port, same database. */
  async restart(): Promise<void> {
    await this.#process.kill();
    await this.#process.start();
  }

  kill = (): Promise<void> => this.#process.kill();
  start = (): Promise<void> => this.#process.start();
  end = (): Promise<void> => this.#process.end();
}

export async function serve(settings: Readonly<Record<string, string>> = {}): Promise<Served> {
  const served = new Served(ServerProcess.of(`${AGENT}:agent`, settings));
  await served.start();
  return served;
}

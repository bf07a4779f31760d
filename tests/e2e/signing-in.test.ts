import { createHmac } from "node:crypto";
import { expect, test } from "vitest";
import { ServerProcess } from "./server.ts";
import { eventually, visiting, type Visit } from "./visits.ts";

const SECRET = "k7Qv1xTz9bLw3Rj5Ys8Nd2Hf6Gc4Mp0A";
const server = ServerProcess.ofAgent({
  RUNCAST_AUTH: "jwt",
  RUNCAST_JWT_SECRET: SECRET,
  RUNCAST_SIGN_IN_URL: "/login",
});

function token(user: string): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const start = `${part({ alg: "HS256" })}.${part({ sub: user, exp: Math.floor(Date.now() / 1000) + 600 })}`;
  return `${start}.${createHmac("sha256", SECRET).update(start).digest("base64url")}`;
}

/** What an application does when it has signed somebody in. */
const signIn = ({ context }: Visit, user: string): Promise<void> =>
  context.addCookies([{ name: "auth_token", value: token(user), url: server.origin, httpOnly: true, sameSite: "Lax" }]);

visiting("a server that asks for tokens", server, (visit) => {
  test("the page says that a sign-in is needed, once, and works with a cookie", async () => {
    const reader = await visit();
    reader.expected = /401|Failed to load resource/;
    let sockets = 0;
    reader.page.on("websocket", () => sockets++);
    await reader.open();
    await reader.page.getByText("Sign in needed").first().waitFor();
    expect(await reader.page.getByRole("link", { name: "Sign in" }).getAttribute("href")).toBe(
      `${server.origin}/login`,
    );
    await reader.page.waitForTimeout(4_000); // as long as some reconnections would take
    expect(sockets).toBe(1);

    await signIn(reader, "ana");
    await reader.open();
    const address = await reader.begin("short");
    await reader.becomes("done");
    expect(await reader.page.getByText("Sign in needed").count()).toBe(0);

    const other = await visit();
    other.expected = /404|Failed to load resource/;
    await signIn(other, "eve");
    await other.page.goto(address);
    await eventually(() => other.page.getByRole("heading", { level: 1 }).innerText()).toMatch(/is not here/);
  });
});

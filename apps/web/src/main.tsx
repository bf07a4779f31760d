import { createClient, type Client } from "@runcast/client";
import { createRoot } from "react-dom/client";
import { App } from "./app.tsx";
import { basePath, readConfig } from "./config.ts";
import "./theme.css";

const root = document.getElementById("root");
if (!root) throw new Error("the page has no #root");

async function client(): Promise<Client> {
  if (import.meta.env.DEV && new URLSearchParams(location.search).has("fixture")) {
    const { fixtureClient } = await import("./fixtures/client.ts");
    return fixtureClient(new URLSearchParams(location.search));
  }
  return createClient({ baseUrl: document.baseURI });
}

createRoot(root).render(<App client={await client()} config={readConfig()} base={basePath()} />);

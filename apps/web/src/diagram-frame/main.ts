/**
 * The diagram frame: the only place where Mermaid runs. It lives in `<iframe sandbox="allow-scripts">`, hence in an opaque
 * origin without cookies, storage or a way to the app's page; its own headers let it load nothing but its script.
 *
 *     in   {draw: number, source: string, dark: boolean}
 *     out  {ready: true} · {drawn: number, svg: string, width: number, height: number} · {failed: number, reason: string}
 *
 * The app shows the SVG as an image, in which no script runs and nothing is loaded.
 */
import mermaid from "mermaid";
import { cleaned, MAX_SOURCE } from "../canvas/source.ts";

const FONT = 'ui-sans-serif, system-ui, -apple-system, "Segoe UI", Arial, sans-serif';

const LIGHT = {
  darkMode: false,
  background: "#ffffff",
  primaryColor: "#f3f5f7",
  primaryBorderColor: "#8a97a6",
  primaryTextColor: "#1f242b",
  secondaryColor: "#e7f0f6",
  secondaryBorderColor: "#6f9ab6",
  secondaryTextColor: "#1f242b",
  tertiaryColor: "#fafbfb",
  tertiaryBorderColor: "#c3cad2",
  tertiaryTextColor: "#1f242b",
  lineColor: "#66727f",
  textColor: "#1f242b",
  mainBkg: "#f3f5f7",
  nodeBorder: "#8a97a6",
  clusterBkg: "#fafbfb",
  clusterBorder: "#c3cad2",
  edgeLabelBackground: "#ffffff",
  rowOdd: "#ffffff",
  rowEven: "#f7f8f9",
  attributeBackgroundColorOdd: "#ffffff",
  attributeBackgroundColorEven: "#f7f8f9",
  noteBkgColor: "#fdf6e3",
  noteBorderColor: "#d9c48f",
  noteTextColor: "#1f242b",
};

const DARK = {
  darkMode: true,
  background: "#1b1d20",
  primaryColor: "#26292e",
  primaryBorderColor: "#6f7a86",
  primaryTextColor: "#e8eaec",
  secondaryColor: "#203440",
  secondaryBorderColor: "#5a92b0",
  secondaryTextColor: "#e8eaec",
  tertiaryColor: "#202327",
  tertiaryBorderColor: "#454c54",
  tertiaryTextColor: "#e8eaec",
  lineColor: "#97a1ac",
  textColor: "#e8eaec",
  mainBkg: "#26292e",
  nodeBorder: "#6f7a86",
  clusterBkg: "#202327",
  clusterBorder: "#454c54",
  edgeLabelBackground: "#1b1d20",
  rowOdd: "#1f2226",
  rowEven: "#26292e",
  attributeBackgroundColorOdd: "#1f2226",
  attributeBackgroundColorEven: "#26292e",
  noteBkgColor: "#38321f",
  noteBorderColor: "#7d6c3d",
  noteTextColor: "#e8eaec",
};

const send = (message: object): void => window.parent.postMessage(message, "*");

function configure(dark: boolean): void {
  const config = {
    startOnLoad: false,
    securityLevel: "strict",
    maxTextSize: MAX_SOURCE,
    maxEdges: 500,
    htmlLabels: false,
    flowchart: { htmlLabels: false },
    // The other layout engine (ELK) is left out of the frame: it would add half to its size.
    layout: "dagre",
    theme: "base",
    themeVariables: { ...(dark ? DARK : LIGHT), fontFamily: FONT, fontSize: "14px" },
    fontFamily: FONT,
    suppressErrorRendering: true,
    logLevel: 5,
  } as const;
  // Nothing that a diagram says may change any of it.
  mermaid.initialize({ ...config, secure: [...Object.keys(config), "secure", "themeCSS", "look", "dompurifyConfig"] });
}

async function draw(id: number, source: string, dark: boolean): Promise<void> {
  try {
    configure(dark);
    const { svg } = await mermaid.render(`diagram-${id}`, cleaned(source));
    const box = /viewBox="\s*[-\d.]+\s+[-\d.]+\s+([\d.]+)\s+([\d.]+)/.exec(svg);
    send({ drawn: id, svg, width: Number(box?.[1] ?? 800), height: Number(box?.[2] ?? 600) });
  } catch (error) {
    send({ failed: id, reason: error instanceof Error ? error.message.slice(0, 2000) : "" });
  }
}

let work = Promise.resolve();
window.addEventListener("message", (event: MessageEvent<unknown>) => {
  if (event.source !== window.parent) return;
  const { draw: id, source, dark } = event.data as { draw?: number; source?: string; dark?: boolean };
  if (typeof id !== "number" || typeof source !== "string" || source.length > MAX_SOURCE) return;
  work = work.then(() => draw(id, source, dark === true));
});
send({ ready: true });

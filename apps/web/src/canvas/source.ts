/** What the app does to a diagram's source before it is drawn. No I/O: the frame and the app both use it. */

/** Larger sources are shown as text: laying them out takes minutes. */
export const MAX_SOURCE = 50 * 1024;

/** Takes away what could change how diagrams are drawn or styled: directives and front matter. */
export function cleaned(source: string): string {
  return source
    .replace(/^\uFEFF/, "")
    .replace(/^\s*---[ \t]*\r?\n[\s\S]*?\r?\n---[ \t]*(?:\r?\n|$)/, "")
    .replace(/%%\{[\s\S]*?\}%%/g, "")
    .replace(/%%\{[\s\S]*$/, "")
    .trim();
}

/** The word that names the kind of diagram: "erDiagram", "flowchart" … or "" if there is none. */
export function kindOf(source: string): string {
  for (const line of cleaned(source).split("\n")) {
    const text = line.trim();
    if (text && !text.startsWith("%%"))
      return (/^[A-Za-z]+/.exec(text)?.[0] ?? "").replace(/^(state|flow)Diagram$/, "$1Diagram");
  }
  return "";
}

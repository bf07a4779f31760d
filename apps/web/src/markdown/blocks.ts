import remend from "remend";

/**
 * Splits an answer into blocks whose text, once a later block has begun, does not change any more: so that a token
 * re-renders one block. Joined, the blocks are the answer; rendered one by one, they look like the whole. A boundary is a line
 * that follows a blank one, begins at the margin and cannot belong to what came before it: not inside a fence, a list
 * or HTML. Where that is not certain, there is no boundary.
 */
export class BlockSplitter {
  #text = "";
  #blocks: readonly string[] = [];

  split(text: string): readonly string[] {
    if (text === this.#text) return this.#blocks;
    const grown = this.#text !== "" && text.startsWith(this.#text);
    // The last block may still grow; those before it are settled.
    const kept = grown ? this.#blocks.slice(0, -1) : [];
    const start = kept.reduce((sum, block) => sum + block.length, 0);
    this.#blocks = [...kept, ...split(text.slice(start))];
    this.#text = text;
    return this.#blocks;
  }
}

const LIST_ITEM = /^ {0,3}(?:[-*+]|\d{1,9}[.)])(?:\s|$)/;
const HTML = /^ {0,3}<(?:!|\?|pre|script|style|textarea)/i;

function split(text: string): string[] {
  const blocks: string[] = [];
  let begin = 0;
  let fence: string | null = null;
  let list = false;
  let blank = false;
  for (let at = 0; at < text.length;) {
    const newline = text.indexOf("\n", at);
    const end = newline === -1 ? text.length : newline + 1;
    const line = text.slice(at, end);
    if (line.trim() === "") {
      blank ||= fence === null;
    } else {
      const item = LIST_ITEM.test(line);
      // A lone marker at the end may become either a list's next item or something else: it stays where it is.
      if (
        blank &&
        fence === null &&
        /^\S/.test(line) &&
        !(list && (item || (newline === -1 && /^(?:[-*+]|\d{1,9}[.)]?)$/.test(line))))
      ) {
        blocks.push(text.slice(begin, at));
        begin = at;
        list = false;
      }
      if (fence === null && HTML.test(line)) break;
      blank = false;
      list ||= item && begin === at;
      fence = afterLine(fence, line);
    }
    at = end;
  }
  blocks.push(text.slice(begin));
  return blocks;
}

/** Link definitions of the whole answer: every block needs them, they themselves show nothing. */
export function definitions(text: string): string {
  if (!text.includes("]:")) return "";
  return (text.match(/^ {0,3}\[[^\]^\n][^\]\n]*\]:[^\n]+\n/gm) ?? []).join("");
}

const FENCE = /^ *(`{3,}|~{3,})/;

/** The fence that is open after a line, given the one that was open before it. */
function afterLine(open: string | null, line: string): string | null {
  const fence = FENCE.exec(line)?.[1];
  if (!fence) return open;
  if (open === null) return fence[0] === "`" && line.trim().slice(fence.length).includes("`") ? null : fence;
  return fence[0] === open[0] && fence.length >= open.length && line.trim() === fence ? null : open;
}

/** The fence that is still open at the end of a block of Markdown, or null. */
export function openFence(text: string): string | null {
  return text.split("\n").reduce(afterLine, null as string | null);
}

/** A last line that may still become something else: a list marker, a rule, an underlined heading, the start of a fence. */
const UNDECIDED =
  /^\s*(?:(?:>\s*)*(?:[-*+]\s*(?:\[[ xX]?\]?\s*)?|\d{1,9}[.)]?|[-*_=]+|#{1,6}\s*|`+[\w+#.-]*|~+[\w+#.-]*|:|>|\[\^?[^\]]*\]?:?|\\|&[#\w]*|<[^>]*)\s*)$/;

/**
 * What may be shown of a block that still grows: unfinished syntax is completed, and what cannot be decided yet is held
 * back until the next characters come. Nothing raw ever flashes.
 */
export function settle(block: string): string {
  const fence = openFence(block);
  if (fence !== null) {
    const at = block.lastIndexOf("\n");
    if (at === -1) return "";
    const last = block.slice(at + 1);
    // The closing fence, character by character.
    if (last.trim() && fence.startsWith(last.trim())) return block.slice(0, at + 1);
    // The opening fence of a block that is not its first line, before its info string is whole.
    if (FENCE.test(last)) return settle(block.slice(0, at));
    return block;
  }
  if (FENCE.test(block) && block.includes("\n")) return block;
  let text = block;
  for (;;) {
    const whole = text.endsWith("\n") && !text.endsWith("\n\n") ? text.slice(0, -1) : text;
    const at = whole.lastIndexOf("\n");
    const last = whole.slice(at + 1);
    const before = whole.slice(0, Math.max(at, 0));
    if (last.trim() && mayBeTable(before, last)) {
      text = before;
      // Above a delimiter row that is not whole there is a header that waits for it.
      if (DELIMITERS.test(last)) continue;
    } else if (last.trim() && whole === text && UNDECIDED.test(last)) {
      text = before;
      continue;
    }
    break;
  }
  return completeInline(text);
}

const DELIMITERS = /^[\s|:-]+$/;
const isDelimiter = (line: string): boolean => /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/.test(line);
const cells = (line: string): number => line.trim().replace(/^\|/, "").replace(/\|$/, "").split("|").length;

/** A line with a pipe that may be a table's header, or its delimiter row before it is whole. Inside a table it is a row. */
function mayBeTable(before: string, last: string): boolean {
  if (!last.includes("|")) return false;
  const lines = before.slice(before.lastIndexOf("\n\n") + 1).split("\n");
  const isTable = (line: string, above: string | undefined): boolean =>
    above !== undefined && isDelimiter(line) && cells(line) === cells(above);
  if (lines.some((line, index) => isTable(line, lines[index - 1]))) return false;
  return !isTable(last, lines.at(-1));
}

/** Closes what is open. Markers at the very end may still become longer, so they count only with what follows them. */
function completeInline(text: string): string {
  const decided = text.replace(/(?:[*_~`]+|\\)$/, "").replace(/(?<=^|[\s(])!?\[$/, "");
  return remend(decided, { linkMode: "text-only", images: true, katex: false, setextHeadings: false });
}

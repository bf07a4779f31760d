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
  for (let at = 0; at < text.length; ) {
    const newline = text.indexOf("\n", at);
    const end = newline === -1 ? text.length : newline + 1;
    const line = text.slice(at, end);
    if (line.trim() === "") {
      blank ||= fence === null;
    } else {
      const item = LIST_ITEM.test(line);
      // A lone marker at the end may become either a list's next item or something else: it stays where it is.
      if (blank && fence === null && /^\S/.test(line) && !(list && (item || newline === -1))) {
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
const UNDECIDED = /^\s*(?:(?:>\s*)*(?:[-*+]\s*(?:\[[ xX]?\]?\s*)?|\d{1,9}[.)]?|[-*_=]+|#{1,6}\s*|`+[\w+#.-]*|~+[\w+#.-]*|:|>|\[\^?[^\]]*\]?:?|\\|&[#\w]*|<[^>]*)\s*)$/;

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
  let text = block;
  for (;;) {
    const at = text.lastIndexOf("\n");
    const last = text.slice(at + 1);
    if (last.trim() && (UNDECIDED.test(last) || isTableStart(text.slice(0, at + 1), last))) {
      text = text.slice(0, Math.max(at, 0));
      if (!text) return "";
      continue;
    }
    break;
  }
  return completeInline(text);
}

/** A line with a pipe that is not (yet) inside a table: its header, until the whole delimiter row has come. */
function isTableStart(before: string, last: string): boolean {
  if (!last.includes("|")) return false;
  const lines = before.split("\n").filter((line) => line.trim());
  // Inside a table already: a row that grows is a row; but the delimiter row counts only when it has as many cells.
  const header = lines.at(-1);
  if (/^[\s|:-]+$/.test(last)) return lines.length > 0 && !lines.slice(0, -1).some(isDelimiter) ? !sameCells(header ?? "", last) : false;
  return !lines.some(isDelimiter);
}

const isDelimiter = (line: string): boolean => /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/.test(line) && line.includes("-");
const cells = (line: string): number => line.trim().replace(/^\|/, "").replace(/\|$/, "").split("|").length;
const sameCells = (header: string, delimiter: string): boolean => isDelimiter(delimiter) && cells(header) === cells(delimiter);

function completeInline(text: string): string {
  const completed = remend(text, { linkMode: "text-only", images: true, katex: false, setextHeadings: false });
  // A run of markers that has nothing after it yet.
  return completed.replace(/(?:^|(?<=[\s(“"']))[*_~`[\]!]+$/, "").replace(/(?<=\S)[*_~`]+$/, (tail) => (balanced(completed, tail) ? tail : ""));
}

function balanced(text: string, tail: string): boolean {
  const marker = tail[0] as string;
  return (text.split(marker).length - 1) % 2 === 0;
}

import { lexer } from "marked";
import remend from "remend";

/**
 * Splits an answer into blocks whose text, once a later block has begun, does not change any more: so that a token
 * re-renders one block. Joined, the blocks are the answer. What earlier blocks were is kept, and only the tail is read again.
 */
export class BlockSplitter {
  #text = "";
  #blocks: string[] = [];

  split(text: string): readonly string[] {
    if (text === this.#text) return this.#blocks;
    let kept: string[] = [];
    if (this.#text && text.startsWith(this.#text)) kept = this.#blocks.slice(0, -2);
    const start = kept.reduce((sum, block) => sum + block.length, 0);
    this.#blocks = [...kept, ...split(text.slice(start))];
    this.#text = text;
    return this.#blocks;
  }
}

function split(text: string): string[] {
  const blocks: string[] = [];
  let length = 0;
  for (const token of lexer(text, { gfm: true })) {
    if (token.type === "space" && blocks.length > 0) blocks[blocks.length - 1] += token.raw;
    else blocks.push(token.raw);
    length += token.raw.length;
  }
  // The lexer normalises line ends and tabs; if the pieces are not the text, one block is.
  return length === text.length && blocks.join("") === text ? blocks : [text];
}

/** Link definitions of the whole answer: every block needs them, they themselves show nothing. */
export function definitions(text: string): string {
  if (!text.includes("]:")) return "";
  return (text.match(/^ {0,3}\[[^\]^\n][^\]\n]*\]:[^\n]+\n/gm) ?? []).join("");
}

const FENCE = /^ {0,3}(`{3,}|~{3,})/;

/** The fence that is still open at the end of a block of Markdown, or null. */
export function openFence(text: string): string | null {
  let open: string | null = null;
  for (const line of text.split("\n")) {
    const fence = FENCE.exec(line)?.[1];
    if (!fence) continue;
    if (open === null) open = fence;
    else if (fence[0] === open[0] && fence.length >= open.length && line.trim() === fence) open = null;
  }
  return open;
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

/** The text that `tell <count>` of `agents.py` yields. */
export function story(count: number): string {
  let text = "";
  for (let number = 1; number <= count; number++) {
    text += `word${number}${number % 60 === 0 ? ".\n\n" : number % 12 === 0 ? ". " : " "}`;
  }
  return `${text.replace(/[ .\n]+$/, "")}.`;
}

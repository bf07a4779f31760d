import { createEvent, fireEvent, render, screen } from "@testing-library/react";
import { describe, expect, it, vi } from "vitest";
import { Composer, MAX_MESSAGE } from "../src/composer.tsx";

function setup(more: Partial<Parameters<typeof Composer>[0]> = {}) {
  const onSend = vi.fn<(text: string) => void>();
  const onStop = vi.fn();
  const props = { draftKey: "new", busy: false, stopping: false, placeholder: "Ask", onSend, onStop, ...more };
  const view = render(<Composer {...props} />);
  const field = screen.getByRole<HTMLTextAreaElement>("textbox", { name: "Message" });
  const write = (value: string) => fireEvent.change(field, { target: { value } });
  const again = (next: Partial<typeof props>) => view.rerender(<Composer {...props} {...next} />);
  return { onSend, onStop, field, write, again, ...view };
}

describe("Composer", () => {
  it("has the cursor from the start", () => {
    const { field } = setup();
    expect(document.activeElement).toBe(field);
  });

  it("sends with Enter, and is empty and in focus then", () => {
    const { onSend, field, write } = setup();
    write("  Hello ");
    fireEvent.keyDown(field, { key: "Enter" });
    expect(onSend.mock.calls).toEqual([["Hello", []]]);
    expect(field.value).toBe("");
    expect(document.activeElement).toBe(field);
  });

  it("breaks the line with Shift+Enter", () => {
    const { onSend, field, write } = setup();
    write("a");
    const event = createEvent.keyDown(field, { key: "Enter", shiftKey: true });
    fireEvent(field, event);
    expect(onSend).not.toHaveBeenCalled();
    expect(event.defaultPrevented).toBe(false);
  });

  it("leaves Enter to an input method that is composing", () => {
    const { onSend, field, write } = setup();
    write("に");
    fireEvent.keyDown(field, { key: "Enter", isComposing: true });
    fireEvent.keyDown(field, { key: "Enter", keyCode: 229 });
    expect(onSend).not.toHaveBeenCalled();
    fireEvent.keyDown(field, { key: "Enter" });
    expect(onSend).toHaveBeenCalledTimes(1);
  });

  it("sends once, however often it is pressed in one tick", () => {
    const { onSend, field, write } = setup();
    write("Hello");
    const button = screen.getByRole("button", { name: "Send" });
    fireEvent.click(button);
    fireEvent.click(button);
    fireEvent.keyDown(field, { key: "Enter" });
    expect(onSend).toHaveBeenCalledTimes(1);
  });

  it("does not stop with the second click of a double click on Send", () => {
    const { onStop, write, again } = setup();
    write("Hello");
    fireEvent.click(screen.getByRole("button", { name: "Send" }));
    again({ busy: true });
    fireEvent.click(screen.getByRole("button", { name: "Stop" }));
    expect(onStop).not.toHaveBeenCalled();
  });

  it("does not send nothing", () => {
    const { onSend, field, write } = setup();
    write("   \n ");
    fireEvent.keyDown(field, { key: "Enter" });
    expect(onSend).not.toHaveBeenCalled();
  });

  it("stops with the button and with Escape; a second Escape leaves the field", () => {
    const { onStop, field, again } = setup({ busy: true });
    fireEvent.click(screen.getByRole("button", { name: "Stop" }));
    fireEvent.keyDown(field, { key: "Escape" });
    expect(onStop).toHaveBeenCalledTimes(2);
    again({ busy: true, stopping: true });
    fireEvent.keyDown(field, { key: "Escape" });
    expect(onStop).toHaveBeenCalledTimes(2);
    expect(document.activeElement).not.toBe(field);
  });

  it("withdraws a question with the button only: Escape in a form must not", () => {
    const { onStop, field, write } = setup({ waiting: true });
    fireEvent.keyDown(field, { key: "Escape" });
    expect(onStop).not.toHaveBeenCalled();
    fireEvent.click(screen.getByRole("button", { name: "Stop" }));
    expect(onStop).toHaveBeenCalledOnce();
    write("Something else");
    screen.getByRole("button", { name: "How to send" });
  });

  it("can send while a run is on, beside stopping it", () => {
    const { onSend, field, write } = setup({ busy: true });
    expect(screen.queryByRole("button", { name: "Send" })).toBeNull();
    write("Next");
    screen.getByRole("button", { name: "Stop" });
    fireEvent.click(screen.getByRole("button", { name: "Send" }));
    expect(onSend.mock.calls).toEqual([["Next", []]]);
    expect(field.disabled).toBe(false);
  });

  it("keeps a draft for each conversation", () => {
    const { field, write, again } = setup({ draftKey: "a" });
    write("for a");
    again({ draftKey: "b" });
    expect(field.value).toBe("");
    write("for b");
    again({ draftKey: "a" });
    expect(field.value).toBe("for a");
    fireEvent.keyDown(field, { key: "Enter" });
    again({ draftKey: "b" });
    expect(field.value).toBe("for b");
    again({ draftKey: "a" });
    expect(field.value).toBe("");
  });

  it("says that a message is too long, in bytes, and keeps it", () => {
    const { onSend, field, write } = setup();
    const text = "é".repeat(MAX_MESSAGE / 2 + 1);
    write(text);
    fireEvent.keyDown(field, { key: "Enter" });
    expect(onSend).not.toHaveBeenCalled();
    expect(screen.getByRole("alert").textContent).toContain("32 KB");
    expect(field.value).toBe(text);
  });

  it("edits the last message with ↑, only when nothing is written", () => {
    const onEditLast = vi.fn(() => true);
    const { field, write } = setup({ onEditLast });
    write("a");
    fireEvent.keyDown(field, { key: "ArrowUp" });
    expect(onEditLast).not.toHaveBeenCalled();
    write("");
    const event = createEvent.keyDown(field, { key: "ArrowUp" });
    fireEvent(field, event);
    expect(onEditLast).toHaveBeenCalledTimes(1);
    expect(event.defaultPrevented).toBe(true);
  });

  it("offers other ways to send only while a run is on and something is written", () => {
    const { again, write, onSend } = setup();
    write("a");
    expect(screen.queryByRole("button", { name: "How to send" })).toBeNull();
    again({ busy: true });
    fireEvent.click(screen.getByRole("button", { name: "How to send" }));
    expect(screen.getAllByRole("menuitem", { hidden: true }).map((item) => item.textContent)).toEqual([
      "Queue",
      "Interrupt and send",
    ]);
    again({ busy: true, steerable: true });
    fireEvent.click(screen.getByRole("menuitem", { name: "Tell the agent now", hidden: true }));
    expect(onSend.mock.calls).toEqual([["a", [], "steer"]]);
  });
});

import { cleanup } from "@testing-library/react";
import { afterEach } from "vitest";

// jsdom lays nothing out and does not scroll.
Element.prototype.scrollTo = () => undefined;

afterEach(() => {
  cleanup();
  localStorage.clear();
});

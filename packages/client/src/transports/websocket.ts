import type { Open } from "./transport.js";

/** The native WebSocket of the server at `base`. */
export function openWebSocket(base: URL, Socket: typeof WebSocket): Open {
  return (events) => {
    const url = new URL("v1/ws", base);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new Socket(url.href, "runcast.v1");
    let over = false;
    const end = (code: number, reason: string): void => {
      if (over) return;
      over = true;
      events.closed(code, reason);
    };
    socket.onopen = () => events.opened();
    socket.onmessage = ({ data }: MessageEvent) => {
      if (!over && typeof data === "string") events.received(data);
    };
    socket.onclose = ({ code, reason }) => end(code, reason);
    return {
      write: (frame) => {
        if (socket.readyState === 1) socket.send(JSON.stringify(frame)); // else its close is on the way
      },
      close: (code, reason) => {
        over = true; // a dead line takes minutes to say that it is closed
        socket.close(code, reason);
      },
    };
  };
}

"""A program that asks an agent and prints what happens, with a running server: python ask_and_print.py "What is json?" """

import sys

from runcast import events as e
from runcast.client.sync import connect


def main(question: str, url: str = "http://127.0.0.1:8000") -> None:
    with connect(url) as client:
        run = client.send(question)
        for event in run.events():
            match event:
                case e.TextMessageContent():
                    print(event.delta, end="", flush=True)
                case e.ToolCallStart():
                    print(f"[{event.tool_call_name}]", file=sys.stderr)
                case e.RunError():
                    sys.exit(f"failed: {event.message}")
                case _:
                    pass
        print()


if __name__ == "__main__":
    main(*sys.argv[1:])

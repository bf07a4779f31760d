import type { AgentInfo } from "@runcast/client";
import { useClient } from "@runcast/react";
import { Check, ChevronDown } from "lucide-react";
import { useEffect, useState } from "react";
import { strings } from "./strings.ts";
import { Menu } from "./ui/menu.tsx";
import { agentName } from "./words.ts";

/** The agents of the server, asked for the first time they are `wanted`. Null: not known (yet). */
export function useAgents(wanted: boolean): readonly AgentInfo[] | null {
  const client = useClient();
  const [known, setKnown] = useState<readonly AgentInfo[] | null>(null);
  const ask = wanted && known === null;
  useEffect(() => {
    if (!ask) return;
    let here = true;
    client.agents().then(
      (agents) => here && setKnown(agents),
      () => undefined,
    );
    return () => {
      here = false;
    };
  }, [client, ask]);
  return known;
}

/**
 * Whom a new conversation is with: one quiet line. Its room is kept until it is known, so that nothing moves. The server
 * remembers the choice with the conversation.
 */
export function AgentChoice({
  agents,
  chosen,
  onChoose,
}: {
  agents: readonly AgentInfo[];
  chosen: AgentInfo | undefined;
  onChoose: (name: string) => void;
}) {
  return (
    <div className="column -mt-2 mb-3 flex min-h-8 touch:min-h-11 items-center gap-2 text-meta">
      {chosen && agents.length > 1 && (
        <>
          <Menu
            label={strings.app.agent(agentName(chosen.title))}
            className="button-quiet -ms-3 touch:min-h-11"
            face={
              <>
                {agentName(chosen.title)}
                <ChevronDown size={14} aria-hidden className="text-ink-3" />
              </>
            }
            items={agents.map(({ name, title, description }) => ({
              key: name,
              icon: <Check size={15} aria-hidden className={`shrink-0 ${name === chosen.name ? "" : "opacity-0"}`} />,
              words: agentName(title),
              more: description,
              checked: name === chosen.name,
              run: () => onChoose(name),
            }))}
          />
          <span className="min-w-0 truncate text-ink-3" title={chosen.description}>
            {chosen.description}
          </span>
        </>
      )}
    </div>
  );
}

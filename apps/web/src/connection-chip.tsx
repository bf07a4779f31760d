import { useClient, useConnection } from "@runcast/react";
import { CloudOff, LoaderCircle, Lock } from "lucide-react";
import { useEffect, useState } from "react";
import { strings } from "./strings.ts";
import { useNow } from "./ui/media.ts";

const PATIENCE_MS = 3_000;

/** Whether the line to the server has been down for more than three seconds: until then nobody need know. */
export function useTrouble(): boolean {
  const connection = useConnection();
  const [mounted] = useState(() => Date.now());
  const well = connection.status === "live";
  const since = connection.status === "reconnecting" || connection.status === "offline" ? connection.since : mounted;
  const [late, setLate] = useState(false);
  useEffect(() => {
    if (well) return setLate(false);
    const timer = window.setTimeout(() => setLate(true), Math.max(0, since + PATIENCE_MS - Date.now()));
    return () => window.clearTimeout(timer);
  }, [well, since]);
  return late && !well;
}

const SIGNED_OUT: readonly number[] = [4001, 4002, 4010];

/** How the line to the server stands; nothing while it is well. `signIn`: where people sign in, if that is known. */
export function ConnectionChip({ waiting, signIn }: { waiting: number; signIn: string | null }) {
  const client = useClient();
  const connection = useConnection();
  const trouble = useTrouble();
  const now = useNow(trouble, 250);
  const words = strings.connection;
  const signedOut = connection.status === "stopped" && SIGNED_OUT.includes(connection.code);
  useReturn(signedOut);
  if (connection.status === "stopped") {
    if (connection.code === 1000) return null;
    return (
      <Chip icon={<Lock size={14} aria-hidden />} text={signedOut ? words.signedOut : words.refused}>
        {signedOut && signIn !== null ? (
          <a className="link-button" href={signIn}>
            {words.signIn}
          </a>
        ) : (
          <button type="button" className="link-button" onClick={() => location.reload()}>
            {words.reload}
          </button>
        )}
      </Chip>
    );
  }
  if (connection.status === "live" || !trouble) return null;
  const messages = waiting > 0 ? words.waitingMessages(waiting) : "";
  if (connection.status === "offline")
    return (
      <Chip icon={<CloudOff size={14} aria-hidden />} text={[words.offline, messages].filter(Boolean).join(" · ")} />
    );
  if (connection.status === "connecting") return <Chip icon={<Turning />} text={words.connecting} />;
  const seconds = connection.nextAttemptAt === null ? 0 : Math.ceil((connection.nextAttemptAt - now) / 1000);
  return (
    <Chip
      icon={<Turning />}
      text={seconds > 0 ? words.reconnectingIn(seconds) : words.reconnecting}
      spoken={words.reconnecting}
      more={messages}
    >
      {seconds > 0 && (
        <button type="button" className="link-button" onClick={() => client.retryNow()}>
          {words.tryNow}
        </button>
      )}
    </Chip>
  );
}

/** Who was signed out and comes back to this tab may have signed in in another. */
function useReturn(signedOut: boolean): void {
  const client = useClient();
  useEffect(() => {
    if (!signedOut) return;
    const back = (): void => {
      if (document.visibilityState === "visible") client.retryNow();
    };
    document.addEventListener("visibilitychange", back);
    return () => document.removeEventListener("visibilitychange", back);
  }, [client, signedOut]);
}

const Turning = () => <LoaderCircle size={14} className="animate-spin [animation-duration:1.6s]" aria-hidden />;

function Chip({
  icon,
  text,
  spoken,
  more,
  children,
}: {
  icon: React.ReactNode;
  text: string;
  spoken?: string;
  more?: string;
  children?: React.ReactNode;
}) {
  return (
    <div className="chip">
      <span className="text-amber">{icon}</span>
      <span aria-hidden className="whitespace-nowrap tabular-nums">
        {text}
      </span>
      {more && <span className="whitespace-nowrap text-ink-3 narrow:hidden">{more}</span>}
      <span role="status" className="sr-only">
        {spoken ?? text}
      </span>
      {children}
    </div>
  );
}

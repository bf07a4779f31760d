/** The page of `docs/how-to/use-the-ai-sdk.md`: `?api=` says where the chats are, `?id=` which one it shows. */
import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport, lastAssistantMessageIsCompleteWithApprovalResponses, type UIMessage } from "ai-7";
import { useEffect, useState } from "react";
import { createRoot } from "react-dom/client";

const query = new URLSearchParams(location.search);
const api = query.get("api") ?? "";

function Chat({ id, messages }: { id: string; messages: UIMessage[] }) {
  const chat = useChat<UIMessage>({
    id,
    messages,
    resume: true,
    transport: new DefaultChatTransport({
      api,
      prepareReconnectToStreamRequest: () => ({ api: `${api}/${encodeURIComponent(id)}/stream?ended=true` }),
    }),
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses,
  });
  const [text, setText] = useState("");
  const answer = (id: string, approved: boolean) => void chat.addToolApprovalResponse({ id, approved });
  return (
    <main data-status={chat.status}>
      {chat.messages.map((message) => (
        <article key={message.id} data-role={message.role}>
          {message.parts.map((part, at) =>
            part.type === "text" ? (
              <span key={at}>{part.text}</span>
            ) : part.type === "dynamic-tool" && part.state === "approval-requested" ? (
              <p key={at}>
                <button onClick={() => answer(part.approval.id, true)}>Allow</button>
                <button onClick={() => answer(part.approval.id, false)}>Deny</button>
              </p>
            ) : null,
          )}
        </article>
      ))}
      <p role="alert">{chat.error?.message}</p>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void chat.sendMessage({ text });
          setText("");
        }}
      >
        <input value={text} onChange={(event) => setText(event.target.value)} />
      </form>
      <button onClick={() => void chat.regenerate()}>Again</button>
      <button onClick={() => void fetch(`${api}/${encodeURIComponent(id)}/stop`, { method: "POST" })}>Stop</button>
    </main>
  );
}

function Page({ id }: { id: string }) {
  const [messages, setMessages] = useState<UIMessage[] | null>(null);
  useEffect(() => {
    void fetch(`${api}/${encodeURIComponent(id)}/messages`)
      .then((answer) => answer.json())
      .then((saved: { messages: UIMessage[] }) => setMessages(saved.messages));
  }, [id]);
  return messages && <Chat id={id} messages={messages} />;
}

createRoot(document.body.appendChild(document.createElement("div"))).render(<Page id={query.get("id") ?? ""} />);

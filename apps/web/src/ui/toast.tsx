import { X } from "lucide-react";
import { useEffect } from "react";
import { create } from "zustand";
import { strings } from "../strings.ts";

interface Toast {
  id: number;
  text: string;
  action?: { label: string; run: () => void } | undefined;
  ms: number;
}

interface Toasts {
  list: readonly Toast[];
  show: (text: string, options?: { action?: Toast["action"]; ms?: number }) => number;
  drop: (id: number) => void;
}

let next = 1;

/** Short news at the foot of the page; the newest three. */
export const useToasts = create<Toasts>((set) => ({
  list: [],
  show: (text, { action, ms = 6000 } = {}) => {
    const id = next++;
    set(({ list }) => ({ list: [...list, { id, text, action, ms }].slice(-3) }));
    return id;
  },
  drop: (id) => set(({ list }) => ({ list: list.filter((toast) => toast.id !== id) })),
}));

export function ToastList() {
  const list = useToasts((toasts) => toasts.list);
  return (
    <div role="status" aria-live="polite" className="toasts no-print">
      {list.map((toast) => (
        <OneToast key={toast.id} toast={toast} />
      ))}
    </div>
  );
}

function OneToast({ toast }: { toast: Toast }) {
  const drop = useToasts((toasts) => toasts.drop);
  useEffect(() => {
    const timer = window.setTimeout(() => drop(toast.id), toast.ms);
    return () => window.clearTimeout(timer);
  }, [toast, drop]);
  return (
    <div className="toast">
      <span className="min-w-0 truncate">{toast.text}</span>
      {toast.action && (
        <button
          type="button"
          className="link-button"
          onClick={() => {
            toast.action?.run();
            drop(toast.id);
          }}
        >
          {toast.action.label}
        </button>
      )}
      <button type="button" className="icon-button" aria-label={strings.toast.dismiss} onClick={() => drop(toast.id)}>
        <X size={14} aria-hidden />
      </button>
    </div>
  );
}

// A question that must be answered before anything else.

import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";

type Wish = { title: string; yes: string; onYes: () => void; onClose: () => void; children: ComponentChildren };

export function Dialog({ title, yes, onYes, onClose, children }: Wish) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} aria-labelledby="dialog-title" onClose={onClose}>
      <h2 id="dialog-title">{title}</h2>
      {children}
      <div class="row end">
        <button type="button" class="plain" onClick={() => dialog.current?.close()}>Cancel</button>
        <button
          type="button"
          class="danger"
          onClick={() => {
            onYes();
            dialog.current?.close();
          }}
        >
          {yes}
        </button>
      </div>
    </dialog>
  );
}

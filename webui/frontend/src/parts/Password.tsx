// Fields for passwords, and the form that sets a new one.

import { useSignal, type Signal } from "@preact/signals";
import { admit, ask, sentence, session } from "../link";

type FieldWish = {
  id: string;
  label: string;
  value: Signal<string>;
  shown: boolean;
  complete: string;
  hint?: string;
  optional?: boolean;
};

export function PasswordField({ id, label, value, shown, complete, hint, optional = false }: FieldWish) {
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input
        id={id}
        {...(shown ? ({ type: "text" } as const) : ({ type: "password" } as const))}
        value={value.value}
        autocomplete={complete}
        autocapitalize="off"
        spellcheck={false}
        required={!optional}
        aria-describedby={hint ? `${id}-hint` : undefined}
        onInput={({ currentTarget }) => (value.value = currentTarget.value)}
      />
      {hint && <p class="hint" id={`${id}-hint`}>{hint}</p>}
    </div>
  );
}

/** Keepers of passwords file them under a user's name: the car's, for all who drive it know one password. */
export const CarAsUser = () => <input hidden readOnly autocomplete="username" value={session.value?.car ?? ""} />;

export function Show({ shown, label }: { shown: Signal<boolean>; label: string }) {
  return (
    <label class="switch">
      <input
        type="checkbox"
        checked={shown.value}
        onChange={({ currentTarget }) => (shown.value = currentTarget.checked)}
      />
      <span>{label}</span>
    </label>
  );
}

/** `known` is the old password, where it was typed a moment ago. */
export function NewPassword({ known, onDone }: { known?: string; onDone: () => void }) {
  const [old, fresh, again] = [useSignal(known ?? ""), useSignal(""), useSignal("")];
  const shown = useSignal(false);
  const busy = useSignal(false);
  const problem = useSignal("");
  const differ = again.value !== "" && again.value !== fresh.value;
  const ready = old.value && fresh.value.length >= 8 && again.value === fresh.value;

  async function change(event: Event) {
    event.preventDefault();
    busy.value = true;
    problem.value = "";
    try {
      const { csrf } = await ask<{ csrf: string }>("POST", "/api/v1/password", { old: old.value, new: fresh.value });
      onDone();
      if (session.value) admit({ ...session.value, csrf, must_change: false });
    } catch (error) {
      problem.value = sentence(error);
    }
    busy.value = false;
  }

  return (
    <form class="form" onSubmit={change}>
      <CarAsUser />
      {known === undefined && (
        <PasswordField id="old" label="Old password" value={old} shown={shown.value} complete="current-password" />
      )}
      <PasswordField id="new" label="New password" value={fresh} shown={shown.value} complete="new-password"
        hint="8 to 128 characters, and not a common one." />
      <PasswordField id="again" label="The new password again" value={again} shown={shown.value}
        complete="new-password" />
      <Show shown={shown} label="Show passwords" />
      <p class="problem" role="alert">{problem.value || (differ ? "The two new passwords differ." : "")}</p>
      <button type="submit" class="main" disabled={!ready || busy.value}>Change password</button>
    </form>
  );
}

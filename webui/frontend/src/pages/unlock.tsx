// The door: the password, and on the first visit a new one and the way back to this car.

import { signal, useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { admit, ask, lost, sentence, session, type Session } from "../link";
import { Addresses } from "../parts/Addresses";
import { Mark } from "../parts/Mark";
import { CarAsUser, NewPassword, PasswordField, Show } from "../parts/Password";

/** Whether the set-up's last step is still to be read, although the way in is free. */
export const settling = signal(false);
/** What was typed at the door, so that the set-up need not ask for it again. */
const typed = signal<string | undefined>(undefined);

function Door({ title, children }: { title: string; children: ComponentChildren }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    const field = heading.current?.parentElement?.querySelector<HTMLInputElement>("input:not([hidden])");
    (field ?? heading.current)?.focus();
  }, [title]);
  return (
    <main class="door">
      <p class="brand"><Mark />hotlap</p>
      <p id="lost" class="banner grave" role="status">{lost}</p>
      <section class="card" aria-labelledby="door-title">
        <h1 id="door-title" ref={heading} tabIndex={-1}>{title}</h1>
        {children}
      </section>
    </main>
  );
}

export function Unlock() {
  const password = useSignal("");
  const name = useSignal("");
  const shown = useSignal(false);
  const busy = useSignal(false);
  const problem = useSignal("");

  async function unlock(event: Event) {
    event.preventDefault();
    busy.value = true;
    problem.value = "";
    try {
      const called = name.value.trim();
      const wish = { password: password.value, ...(called ? { name: called } : {}) };
      const now = await ask<Session>("POST", "/api/v1/login", wish);
      typed.value = now.must_change ? password.value : undefined;
      admit(now);
    } catch (error) {
      problem.value = sentence(error);
      busy.value = false;
    }
  }

  return (
    <Door title={`Unlock ${session.value?.car ?? "the car"}`}>
      <form class="form" onSubmit={unlock}>
        <CarAsUser />
        <PasswordField id="password" label="Password" value={password} shown={shown.value}
          complete="current-password" />
        <Show shown={shown} label="Show password" />
        <div class="field">
          <label for="name">Your name, if you like</label>
          <input
            id="name"
            value={name.value}
            maxLength={40}
            autocomplete="nickname"
            aria-describedby="name-hint"
            onInput={({ currentTarget }) => (name.value = currentTarget.value)}
          />
          <p class="hint" id="name-hint">Others see by it who drives.</p>
        </div>
        <p class="problem" role="alert">{problem}</p>
        <button type="submit" class="main" disabled={!password.value || busy.value}>Unlock</button>
      </form>
    </Door>
  );
}

export function SetUp() {
  if (session.value?.must_change) {
    return (
      <Door title="Choose a password">
        <p>The first password is only for the first visit. Choose one of your own; everybody who drives needs it.</p>
        <NewPassword known={typed.value} onDone={() => (settling.value = true)} />
      </Door>
    );
  }
  return (
    <Door title="Find this car again">
      <p>The password is set. These are the car's places on the network:</p>
      <Addresses />
      <button
        type="button"
        class="main"
        onClick={() => {
          typed.value = undefined;
          settling.value = false;
        }}
      >
        Go to the car
      </button>
    </Door>
  );
}

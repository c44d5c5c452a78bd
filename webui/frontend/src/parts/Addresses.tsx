// Where this car is found on the network.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { ask, sentence, type Network } from "../link";

export function Addresses() {
  const network = useSignal<Network | null>(null);
  const problem = useSignal("");

  useEffect(() => {
    ask<Network>("GET", "/api/v1/network").then(
      (answer) => (network.value = answer),
      (error) => (problem.value = sentence(error)),
    );
  }, []);

  const list = (entries: string[]) =>
    entries.length ? entries.map((entry) => <span key={entry}>{entry}</span>) : <span>none</span>;
  const { addresses = [], names = [], reason = "" } = network.value ?? {};
  return (
    <>
      {problem.value && <p class="problem" role="alert">{problem}</p>}
      <dl class="facts">
        <dt>Addresses</dt><dd>{list(addresses)}</dd>
        <dt>Names</dt><dd>{list(names)}</dd>
      </dl>
      <p class="hint">{reason}</p>
    </>
  );
}

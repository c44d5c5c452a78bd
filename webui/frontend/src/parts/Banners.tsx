// What everybody must know, whatever page is open: what went wrong, and who has the wheel.

import { lost, order, refusal, state, wheel } from "../link";

export function Banners() {
  const reason = state.value?.stopped_because;
  const sentences = [...new Set([...(reason ? [reason] : []), ...(state.value?.faults ?? [])])];
  const asking = wheel.value?.yours && wheel.value.asked_by;
  return (
    <div id="banners">
      <p id="lost" class="banner grave" role="status">{lost}</p>
      <div id="alarm" class={`banner ${reason ? "grave" : ""}`} role="alert">
        {sentences.length > 0 && <strong>{reason ? "The car has stopped itself." : "Something is wrong."}</strong>}
        {sentences.map((text) => <span key={text}>{text}</span>)}
      </div>
      <p id="refusal" class="banner" role="alert">{refusal}</p>
      <div id="question" class="banner" role="alert">
        {asking && (
          <>
            <p><strong>{asking} asks for the wheel.</strong> Without an answer it goes over in ten seconds.</p>
            <div class="row">
              <button type="button" onClick={() => order("wheel", { wish: "give" })}>Hand over</button>
              <button type="button" class="plain" onClick={() => order("wheel", { wish: "keep" })}>Keep</button>
            </div>
          </>
        )}
      </div>
    </div>
  );
}

export function WheelNote() {
  const now = wheel.value;
  if (!now) return null;
  const { holder, yours, asked_by: asker, asking } = now;
  const wish = (what: string, label: string) => (
    <button type="button" class="plain" onClick={() => order("wheel", { wish: what })}>{label}</button>
  );
  return (
    <div id="wheel">
      <p role="status">
        {!holder
          ? "Nobody has the wheel"
          : yours
            ? "You drive"
            : asking
              ? `You have asked ${holder} for the wheel`
              : asker
                ? `${holder} drives; ${asker} has asked`
                : `${holder} drives; you watch`}
      </p>
      {!holder
        ? wish("take", "Take the wheel")
        : yours
          ? wish("leave", "Let go")
          : asking
            ? wish("leave", "Do not ask")
            : !asker && wish("ask", "Ask for the wheel")}
    </div>
  );
}

// Logs: what the daemon and the system say, as it comes.

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { ask, hidden, pause, sentence, type Entry } from "../link";
import { clock } from "../words";

const REST = 2; // seconds between two looks
const KEPT = 1000;
const LEVELS = ["debug", "info", "warning", "error"];

type Answer = { entries: Entry[]; cursor: string; reason: string | null };

const name = (level: number) => (level >= 40 ? "error" : level >= 30 ? "warning" : level >= 20 ? "info" : "debug");

export function Logs() {
  const which = useSignal("daemon");
  const level = useSignal("info");
  const text = useSignal("");
  const paused = useSignal(false);
  const entries = useSignal<Entry[]>([]);
  const reason = useSignal("");
  const list = useRef<HTMLOListElement>(null);
  const cursor = useRef("");
  const resting = paused.value || hidden.value;

  useEffect(() => {
    cursor.current = "";
    entries.value = [];
    reason.value = "";
  }, [which.value, level.value, text.value]);

  useEffect(() => {
    if (resting) return;
    let over = false;
    async function follow() {
      await pause(0.2); // more letters may come
      while (!over) {
        const wish = { level: level.value, text: text.value, after: cursor.current, limit: "500" };
        const query = new URLSearchParams(wish);
        try {
          const news = await ask<Answer>("GET", `/api/v1/logs/${which.value}?${query}`);
          if (over) return;
          const { scrollHeight = 0, scrollTop = 0, clientHeight = 0 } = list.current ?? {};
          const atEnd = scrollHeight - scrollTop - clientHeight < 40;
          cursor.current = news.cursor;
          reason.value = news.reason ?? "";
          if (news.entries.length) entries.value = [...entries.value, ...news.entries].slice(-KEPT);
          if (atEnd) requestAnimationFrame(() => list.current?.scrollTo({ top: list.current.scrollHeight }));
        } catch (error) {
          if (!over) reason.value = sentence(error);
        }
        await pause(REST);
      }
    }
    void follow();
    return () => {
      over = true;
    };
  }, [resting, which.value, level.value, text.value]);

  const tab = (value: string, label: string) => (
    <label>
      <input type="radio" name="which" value={value} checked={which.value === value}
        onChange={() => (which.value = value)} />
      <span>{label}</span>
    </label>
  );
  return (
    <div class="page wide">
      <div class="page-head">
        <h1 tabIndex={-1}>Logs</h1>
        <fieldset class="tabs">
          <legend class="unseen">Which log</legend>
          {tab("daemon", "Daemon")}
          {tab("system", "System")}
        </fieldset>
      </div>
      <section class="card" aria-label="Entries">
        <div class="filters">
          <div class="field">
            <label for="level">Level</label>
            <div class="choice">
              <select
                id="level"
                value={level.value}
                onChange={({ currentTarget }) => (level.value = currentTarget.value)}
              >
                {LEVELS.map((each) => (
                  <option key={each} value={each}>{each === "error" ? "Errors only" : `${each} and above`}</option>
                ))}
              </select>
            </div>
          </div>
          <div class="field grow">
            <label for="text">Text</label>
            <input id="text" type="search" value={text.value} autocomplete="off"
              onInput={({ currentTarget }) => (text.value = currentTarget.value)} />
          </div>
          <button
            type="button"
            class="plain"
            aria-pressed={paused.value}
            onClick={() => (paused.value = !paused.value)}
          >
            {paused.value ? "Go on" : "Pause"}
          </button>
          <a class="button plain" href={`/api/v1/logs/${which.value}/download`} download>Download</a>
        </div>
        {reason.value && <p class="hint" role="status">{reason}</p>}
        <ol class="log" ref={list} tabIndex={0} aria-label={`The ${which.value}'s log`}>
          {entries.value.map(({ when, level: grade, source, text: said }, place) => (
            <li key={place} class={name(grade)}>
              <time dateTime={new Date(1000 * when).toISOString()}>{clock(when)}</time>
              <span class="grade">{name(grade)}</span>
              <span class="source">{source}</span>
              <span class="text">{said}</span>
            </li>
          ))}
        </ol>
        {!entries.value.length && !reason.value && <p class="hint">Nothing of that kind was said yet.</p>}
      </section>
    </div>
  );
}

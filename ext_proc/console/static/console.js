// Live lists, keys, relative times. Every page works without it.
"use strict";

// Times: the words "in 4 min" beside the exact one, which stays in the title ------------------------------------------
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

function tellTimes(root) {
  for (const one of root.querySelectorAll("time[data-relative]")) {
    const seconds = (Date.parse(one.dateTime) - Date.now()) / 1000;
    const [unit, size] = units.find(([, length]) => Math.abs(seconds) >= length) || units[3];
    one.textContent = relative.format(Math.round(seconds / size), unit);
  }
}

// A list that changes by itself: the server says that it did, and it is fetched anew ----------------------------------
function follow(list) {
  const live = document.getElementById("live");
  const pending = document.getElementById("pending");
  let fetching = false;
  let again = false;

  async function refresh() {
    if (fetching) { again = true; return; }
    fetching = true;
    try {
      const answer = await fetch(list.dataset.source, { headers: { accept: "text/html" }, cache: "no-store" });
      if (answer.status === 401) { signedOut(); return; }
      if (answer.ok) { replace(await answer.text()); }
    } catch { /* the stream says when the server is back */ } finally {
      fetching = false;
      if (again) { again = false; refresh(); }
    }
  }

  function replace(html) {
    const made = new DOMParser().parseFromString(html, "text/html").body;
    const held = document.activeElement && list.contains(document.activeElement) ? document.activeElement.id : "";
    list.replaceChildren(...made.childNodes);
    tellTimes(list);
    if (held) { (document.getElementById(held) || document.getElementById("main")).focus(); }
    const count = Number((list.querySelector("[data-pending]") || { dataset: { pending: 0 } }).dataset.pending);
    const words = count === 1 ? pending.dataset.wordsOne : pending.dataset.wordsMany.replace("#", String(count));
    if (pending.textContent !== words) { pending.textContent = words; }
    document.title = document.title.replace(/\(.*?\)/, `(${count})`);
  }

  function signedOut() {
    source.close();
    live.hidden = false;
    live.className = "live off";
    live.textContent = "signed out: reload to sign in";
  }

  const source = new EventSource(list.dataset.live);
  source.addEventListener("open", () => { live.hidden = false; live.className = "live"; live.textContent = "live"; });
  source.addEventListener("changed", refresh);
  source.addEventListener("signed_out", signedOut);
  source.addEventListener("error", () => {
    live.className = "live off";
    live.textContent = "not live, trying";
    if (source.readyState === EventSource.CLOSED) { refresh(); }
  });
}

// Keys ---------------------------------------------------------------------------------------------------------------
function move(step) {
  const rows = [...document.querySelectorAll("[data-row]")];
  if (!rows.length) { return; }
  const at = rows.indexOf(document.activeElement);
  rows[Math.min(Math.max(at + step, 0), rows.length - 1)].focus();
}

document.addEventListener("keydown", (event) => {
  const where = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey || where.matches("input, textarea, select")) { return; }
  if (event.key === "j") { move(1); }
  if (event.key === "k") { move(-1); }
  if (event.key === "/") {
    const search = document.querySelector("[data-search]");
    if (search) { event.preventDefault(); search.focus(); }
  }
});

// A form that is sent once: the button that was pressed goes along, then none can be pressed again --------------------
document.addEventListener("submit", (event) => {
  if (!event.target.matches("[data-once]")) { return; }
  setTimeout(() => { for (const one of event.target.querySelectorAll("button")) { one.disabled = true; } }, 0);
});
addEventListener("pageshow", (event) => { if (event.persisted) { location.reload(); } });

tellTimes(document);
setInterval(() => tellTimes(document), 15000);
for (const list of document.querySelectorAll("[data-live]")) { follow(list); }

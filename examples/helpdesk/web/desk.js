// The common parts of the pages about work.

export const $ = (id) => document.getElementById(id);

// make returns an element. It inserts strings as text, never as HTML.
export function make(tag, props = {}, ...children) {
  const e = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (key.startsWith("on")) e[key] = value;
    else if (value !== undefined && value !== false) e.setAttribute(key, value === true ? "" : value);
  }
  e.append(...children.filter((c) => c !== undefined && c !== false)); // a condition with && can leave out a child
  return e;
}

// ask sends a request to the desk and calls tell with the error, or with "".
export async function ask(what, tell) {
  const answer = await fetch("/api/work", { method: "POST", body: JSON.stringify(what) });
  tell(answer.ok ? "" : (await answer.text()).trim());
  return answer.ok;
}

// after returns a function that delays f until ms milliseconds pass without a
// call. The delay ends at the latest 4 × ms after the first call.
export function after(ms, f) {
  let timer, first;
  return () => {
    clearTimeout(timer);
    first ??= performance.now();
    const left = Math.max(0, first + 4 * ms - performance.now());
    timer = setTimeout(() => {
      first = undefined;
      f();
    }, Math.min(ms, left));
  };
}

// since returns the age of an instant at the desk's own time, as text.
export function since(now, at) {
  const s = Math.max(0, Math.round((Date.parse(now) - Date.parse(at)) / 1000));
  return s < 60 ? `${s} s` : s < 3600 ? `${Math.floor(s / 60)} min` : `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}
